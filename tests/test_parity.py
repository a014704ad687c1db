"""Imported weights: against PyTorch's networks where torch is, else against their stored answers.

No difference in structure from torchvision was found. What is left is float32: at 224x224 logits
and masks agree to 1e-6. A gradient through ResNet-50 agrees to 1.5% a parameter in float32, and
float32 in PyTorch is just as far from its own float64; so one SGD step's updates are held to 3%
and the outputs after it to 1e-4.
"""

import pathlib

import keras
import numpy as np
import parity
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format

from casm_tf import networks
from casm_tf.networks import conversion, efficientnet_lite

ANSWERS = pathlib.Path(__file__).parent / "data" / "torch_answers.npz"


class Pair:
    """A classifier and its decoder here, with the calls of torch_networks.Pair."""

    def __init__(self, architecture, states):
        self.classifier = conversion.filled_classifier(architecture, states[0])
        self.decoder = conversion.filled_decoder(self.classifier, states[1])

    def state_dicts(self):
        return [parity.state_dict(self.classifier), parity.state_dict(self.decoder)]

    def answers(self, images):
        outputs = networks.mask_model(self.classifier, self.decoder)(images, training=False)
        return outputs["logits"].numpy(), outputs["mask"].numpy()

    def sgd_step(self, images, labels, weights, rate):
        variables = self.classifier.trainable_variables + self.decoder.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.classifier(images, training=True)
            masks = self.decoder(outputs["maps"], training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs["logits"])
            ) + tf.reduce_mean(weights * masks)
        keras.optimizers.SGD(rate).apply(tape.gradient(loss, variables), variables)


def assert_close(found, expected):
    """Logits and masks, of a spread far above the tolerance; `pytest -s` shows how close."""
    for what, mine, other in zip(("logits", "masks"), found, expected, strict=True):
        assert np.std(other) > 0.05
        print(f"{what}: deviation {np.std(other):.2f}, off by {np.abs(mine - other).max():.1e}")
        assert mine == pytest.approx(other, abs=1e-4, rel=0)


def test_answers_are_the_stored_ones_of_pytorch():
    stored = np.load(ANSWERS)
    shapes = [
        {
            str(name): tuple(int(n) for n in shape if n)
            for name, shape in zip(stored[f"{part}_names"], stored[f"{part}_shapes"], strict=True)
        }
        for part in ("classifier", "decoder")
    ]
    pair = Pair("resnet50", [parity.random_state(of, seed) for seed, of in enumerate(shapes)])
    images, labels, weights = parity.batch()
    before = pair.state_dicts()
    for time in ("before", "after"):
        logits, masks = pair.answers(images)
        assert np.array_equal(masks, masks[:, ::4, ::4].repeat(4, 1).repeat(4, 2))
        expected = stored[f"logits_{time}"], stored[f"masks_{time}"]
        assert_close((logits, masks[:, ::4, ::4]), expected)
        if time == "before":
            pair.sgd_step(images, labels, weights, parity.RATE)
    after = pair.state_dicts()
    for part, *states in zip(("classifier", "decoder"), before, after, strict=True):
        norms, names = parity.updates(*states), stored[f"{part}_names"]
        for name, expected in zip(names, stored[f"{part}_updates"], strict=True):
            rounding = 1e-6 * float(np.linalg.norm(states[0][name]))
            assert norms[name] == pytest.approx(expected, rel=0.01, abs=rounding), name


@pytest.mark.parametrize(
    "architecture", ["resnet18", pytest.param("resnet50", marks=pytest.mark.long)]
)
def test_answers_and_one_step_are_pytorchs(architecture):
    pytest.importorskip("torch")
    from benchmarks import torch_networks

    theirs = torch_networks.Pair(architecture, parity.CLASSES)
    shapes = [{n: a.shape for n, a in state.items()} for state in theirs.state_dicts()]
    before = [parity.random_state(of, seed) for seed, of in enumerate(shapes)]
    theirs.load(before)
    ours = Pair(architecture, before)
    images, labels, weights = parity.batch()
    assert_close(ours.answers(images), theirs.answers(images))
    for pair in (ours, theirs):
        pair.sgd_step(images, labels, weights, parity.RATE)
    assert_close(ours.answers(images), theirs.answers(images))
    for start, mine, other in zip(before, ours.state_dicts(), theirs.state_dicts(), strict=True):
        shares = {}
        for name, update in parity.updates(start, other).items():
            difference = np.linalg.norm(mine[name] - other[name])
            rounding = 1e-6 * np.linalg.norm(start[name])
            shares[name] = max(difference - rounding, 0) / update
            assert shares[name] < (1e-4 if "running" in name else 0.03), name
        print(f"updates: off by {max(shares.values()):.1e} of their norm")


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_names_and_shapes_are_torchs(architecture):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    with torch.device("meta"):
        theirs = torch_networks.ResNet(architecture, 1000).state_dict()
    expected = {name: tuple(t.shape) for name, t in theirs.items() if t.ndim}
    assert parity.torch_shapes(networks.classifier(architecture, 224, 1000)) == expected


@pytest.fixture(scope="module")
def keras_model():
    """Keras's ResNet50 with random weights and statistics."""
    model = keras.applications.ResNet50(weights=None, classes=7)
    shapes = {f"{v.path}.weight" if v.name == "gamma" else v.path: v.shape for v in model.variables}
    state = parity.random_state(shapes, 0)
    for variable, array in zip(model.variables, state.values(), strict=True):
        if variable.name == "moving_variance":
            array = np.abs(array) + 1
        variable.assign(array / 10 if variable.path == "predictions/kernel" else array)
    return model


def test_keras_resnet50_answers_as_keras_own_from_files_of_both_kinds(keras_model, tmp_path):
    new, old = tmp_path / "resnet50.weights.h5", tmp_path / "resnet50.h5"
    keras_model.save_weights(new)
    with conversion.h5py.File(old, "w") as file:  # as keras.applications' file is
        legacy_h5_format.save_weights_to_hdf5_group(file, keras_model)
        file.move("predictions", "probs")
        file.move("probs/predictions", "probs/probs")
    classifier, other = (
        conversion.filled_classifier("keras_resnet50", conversion.read_keras(path))
        for path in (new, old)
    )
    for mine, same in zip(classifier.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(mine, same)
    pixels = np.random.RandomState(0).randint(0, 256, (2, 224, 224, 3)).astype(np.float32)
    mean, std = networks.normalisation("keras_resnet50")
    images = (pixels / 255 - mean) / std
    outputs = classifier(images.astype(np.float32), training=False)
    expected = keras_model(keras.applications.resnet50.preprocess_input(pixels.copy())).numpy()
    assert expected.std() > 0.01
    assert tf.nn.softmax(outputs["logits"]).numpy() == pytest.approx(expected, abs=1e-5)
    stages = networks.map_shapes(networks.classifier("resnet50", 224, 7))[1:]
    assert [tuple(x.shape[1:]) for x in outputs["maps"]] == stages


def test_keras_files_that_do_not_fit_are_refused(keras_model, tmp_path):
    path = tmp_path / "some.weights.h5"
    keras_model.save_weights(path)
    with conversion.h5py.File(path, "a") as file:
        file["optimizer/m/conv1_conv/kernel:0"] = np.zeros(3)
    state = conversion.read_keras(path)
    left_over = r"^left over: optimizer/m/conv1_conv/kernel:0$"
    with pytest.raises(ValueError, match=left_over):
        conversion.filled_classifier("keras_resnet50", state)
    del state["optimizer/m/conv1_conv/kernel:0"]
    state["probs/bias"] = state.pop("predictions/bias")
    with pytest.raises(ValueError, match=r"^missing: predictions/bias; left over: probs/bias; of"):
        conversion.filled_classifier("keras_resnet50", state)
    path.write_bytes(b"nothing")
    with pytest.raises(OSError, match="is to be a whole HDF5 file"):
        conversion.read_keras(path)


def test_an_efficientnet_lite_is_read_by_its_packages_names():
    model = networks.classifier("efficientnet_lite0", 32, 4)
    shapes = {}
    for name, v in conversion.torch_variables(model, conversion._LITE_LAYERS).items():
        axes = (2, 3, 0, 1) if "_depthwise_conv" in name else (3, 2, 0, 1)
        shape = np.take(v.shape, axes) if len(v.shape) == 4 else v.shape[::-1]
        shapes[name] = tuple(int(count) for count in shape)
    assert shapes["_conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["_bn0.running_var"] == (32,)
    assert shapes["_blocks.0._depthwise_conv.weight"] == (32, 1, 3, 3)
    assert shapes["_blocks.0._bn2.bias"] == (16,)
    assert shapes["_blocks.3._expand_conv.weight"] == (144, 24, 1, 1)
    assert shapes["_blocks.3._depthwise_conv.weight"] == (144, 1, 5, 5)
    assert shapes["_blocks.15._project_conv.weight"] == (320, 1152, 1, 1)
    assert shapes["_conv_head.weight"] == (1280, 320, 1, 1)
    assert shapes["_fc.weight"] == (4, 1280)
    assert len(shapes) == 49 + 4 * 49 + 2  # convolutions, each with batch normalization; the head

    state = parity.random_state(shapes, 0)
    layer = conversion.filled_classifier("efficientnet_lite0", state).get_layer
    depthwise = state["_blocks.3._depthwise_conv.weight"].transpose(2, 3, 0, 1)
    assert np.array_equal(layer("block3_depthwise").kernel, depthwise)
    assert np.array_equal(layer("fc").kernel, state["_fc.weight"].T)
    assert np.array_equal(
        layer("block3_project_bn").moving_mean, state["_blocks.3._bn2.running_mean"]
    )
    del state["_bn1.weight"]
    with pytest.raises(ValueError, match=r"^missing: _bn1\.weight$"):
        conversion.filled_classifier("efficientnet_lite0", state)


@pytest.mark.parametrize(("size", "padding"), [(3, (0, 1)), (5, (1, 2))])
def test_a_block_of_efficientnet_lite_is_pytorchs(size, padding):
    """With strides, 'same' pads more below and on the right."""
    torch = pytest.importorskip("torch")
    relu6, pad = torch.nn.functional.relu6, torch.nn.functional.pad
    theirs = torch.nn.ModuleDict(
        {
            "_expand_conv": torch.nn.Conv2d(4, 24, 1, bias=False),
            "_bn0": torch.nn.BatchNorm2d(24, eps=1e-3),
            "_depthwise_conv": torch.nn.Conv2d(24, 24, size, 2, groups=24, bias=False),
            "_bn1": torch.nn.BatchNorm2d(24, eps=1e-3),
            "_project_conv": torch.nn.Conv2d(24, 8, 1, bias=False),
            "_bn2": torch.nn.BatchNorm2d(8, eps=1e-3),
        }
    ).eval()
    shapes = {name: tuple(t.shape) for name, t in theirs.state_dict().items() if t.ndim}
    state = parity.random_state(shapes, 0)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    theirs.load_state_dict(tensors, strict=False)  # without the counters of batches

    inputs = keras.Input((8, 8, 4))
    ours = keras.Model(inputs, efficientnet_lite._block(inputs, 8, size, 2, 6, "block0"))
    depthwise = "_depthwise_conv.weight"
    state[depthwise] = state[depthwise].swapaxes(0, 1)
    variables = conversion.torch_variables(ours, conversion._LITE_LAYERS)
    named = {f"_blocks.0.{name}": array for name, array in state.items()}
    conversion.fill(variables, named, conversion._FROM_TORCH)

    images = 3 * np.random.RandomState(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2))
        x = relu6(theirs["_bn0"](theirs["_expand_conv"](x)))
        x = relu6(theirs["_bn1"](theirs["_depthwise_conv"](pad(x, padding * 2))))
        expected = theirs["_bn2"](theirs["_project_conv"](x)).numpy().transpose(0, 2, 3, 1)
    found = ours(images).numpy()
    assert found.shape == (2, 4, 4, 8)
    assert found == pytest.approx(expected, abs=1e-5)
