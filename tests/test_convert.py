"""Imported weights: against PyTorch's networks where torch is, else against their stored answers.

No difference in structure from torchvision was found. What is left is float32: at 224x224 logits
and masks agree to 1e-6. A gradient through ResNet-50 agrees to 1.5% a parameter in float32, and
float32 in PyTorch is just as far from its own float64; so one SGD step's updates are held to 3%
and the outputs after it to 1e-4.
"""

import argparse
import collections
import os
import pathlib
import pickle
import sys

import keras
import numpy as np
import parity
import programs
import pytest
import tensorflow as tf

from casm_tf import networks
from casm_tf.networks import conversion, efficientnet_lite

ANSWERS = pathlib.Path(__file__).parent / "data" / "torch_answers.npz"


@pytest.fixture
def tiny():
    """An architecture of four small bottlenecks, and a state dict of it with four classes."""
    networks.RESNETS["tiny"] = networks.ResNet((1, 1, 1, 1), widths=(4, 4, 8, 8), bottleneck=True)
    yield random_of(networks.classifier("tiny", 32, 4), 0)
    del networks.RESNETS["tiny"]


def torch_shapes(model):
    to_torch = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return {
        name: tuple(v.shape[axis] for axis in to_torch[len(v.shape)])
        for name, v in conversion.torch_variables(model).items()
    }


def random_of(model, seed):
    return parity.random_state(torch_shapes(model), seed)


def state_dict(model):
    """A model's weights as torch has them."""
    to_torch = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return {
        name: np.transpose(v.numpy(), to_torch[len(v.shape)])
        for name, v in conversion.torch_variables(model).items()
    }


class Pair:
    """A classifier and its decoder here, with the calls of torch_networks.Pair."""

    def __init__(self, architecture, states):
        self.classifier = conversion.filled_classifier(architecture, states[0])
        self.decoder = conversion.filled_decoder(self.classifier, states[1])

    def state_dicts(self):
        return [state_dict(self.classifier), state_dict(self.decoder)]

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
    assert torch_shapes(networks.classifier(architecture, 224, 1000)) == expected


def test_all_that_does_not_fit_is_named(tiny):
    del tiny["conv1.weight"], tiny["layer2.0.downsample.1.running_var"]
    tiny["fc.weight"] = tiny["fc.weight"][:, 1:]
    tiny["layer1.1.conv1.weight"] = tiny["layer1.0.conv1.weight"]
    tiny["bn1.bias"][0] = np.nan
    with pytest.raises(ValueError) as error:
        conversion.filled_classifier("tiny", tiny)
    assert str(error.value) == (
        "missing: conv1.weight, layer2.0.downsample.1.running_var; "
        "left over: layer1.1.conv1.weight; "
        "of another shape: fc.weight (4, 31) instead of (4, 32); "
        "not finite: bn1.bias"
    )


def test_of_many_ten_are_named_and_the_rest_counted(tiny):
    count = len(tiny)
    with pytest.raises(ValueError, match=rf"missing: conv1\.weight, .* and {count - 10} more$"):
        conversion.filled_classifier("tiny", {})
    with pytest.raises(ValueError, match=rf"left over: (\S+, ){{9}}\S+ and {count - 10} more$"):
        conversion.filled_classifier(
            "tiny", {**tiny, **{f"ema.{name}": tiny[name] for name in tiny}}
        )


def test_a_square_head_is_transposed_too(tiny):
    tiny["fc.weight"] = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    tiny["fc.bias"] = np.zeros(32, np.float32)
    classifier = conversion.filled_classifier("tiny", tiny)
    assert np.array_equal(classifier.get_layer("fc").kernel, tiny["fc.weight"].T)


def test_nothing_is_changed_by_what_does_not_fit(tiny):
    classifier = conversion.filled_classifier("tiny", tiny)
    other = {name: array + 1 for name, array in tiny.items()}
    del other["fc.bias"]
    with pytest.raises(ValueError, match=r"missing: fc\.bias"):
        conversion.fill(conversion.torch_variables(classifier), other, conversion._FROM_TORCH)
    assert all(np.array_equal(tiny[n], a) for n, a in state_dict(classifier).items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrapped_state_dicts(prefix, wrapper):
    weight = np.ones(2, np.float32)
    state = {f"{prefix}bn1.weight": weight, f"{prefix}bn1.num_batches_tracked": np.int64(3)}
    loaded = state if wrapper is None else {"epoch": 1, wrapper: state, "arch": "resnet50"}
    states, left_out = conversion.state_dicts(loaded)
    assert states == {"classifier": {"bn1.weight": pytest.approx(weight)}}
    others = [] if wrapper is None else ["epoch", "arch"]
    assert left_out == [*others, "1 num_batches_tracked counters"]


def test_the_originals_checkpoint_is_taken_apart():
    one, two = np.ones(1, np.float32), np.zeros(1, np.float32)
    loaded = {
        "epoch": 60,
        "module.state_dict_classifier": {"module.fc.bias": one},
        "module.state_dict_decoder": {"final.0.bias": two},
        "args": argparse.Namespace(),
    }
    states, left_out = conversion.state_dicts(loaded)
    assert states == {"classifier": {"fc.bias": one}, "decoder": {"final.0.bias": two}}
    assert left_out == ["epoch", "args"]


def test_a_prefix_that_only_some_have_stays(tiny):
    states, _ = conversion.state_dicts({**tiny, "module.fc.bias": tiny["fc.bias"]})
    with pytest.raises(ValueError, match=r"^left over: module\.fc\.bias$"):
        conversion.filled_classifier("tiny", states["classifier"])


WRONG = {
    "a list": ([1], "a dict of weights is expected; found a list"),
    "a network": ({"state_dict": 3}, "a dict of weights is expected; found a int"),
    "a number": ({"fc.bias": 3}, "fc.bias is to be a tensor; found a int"),
    "half": ({"state_dict_classifier": {}}, "one state_dict_decoder; found state_dict_classifier"),
    "two": ({"state_dict_decoder": {}, "a_state_dict_decoder": {}}, "found state_dict_decoder, a_"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_state_dict_is_refused(what):
    loaded, expected = WRONG[what]
    with pytest.raises(ValueError, match=expected):
        conversion.state_dicts(loaded)


class Harmful:
    """Makes a file when it is unpickled the trusting way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_harmful_pickle_is_refused_and_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    harm, path = tmp_path / "harm", tmp_path / "weights.pth"
    torch.save({"conv1.weight": Harmful(harm)}, path)
    with pytest.raises(ValueError, match=r"found: it asks for posix\.mkdir"):
        conversion.read_torch(path)
    path.write_bytes(pickle.dumps({"conv1.weight": Harmful(harm)}, protocol=2))
    with pytest.raises(ValueError, match="is to hold plain weights"):
        conversion.read_torch(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"it asks for torch\.nn\.modules\.linear\.Linear"):
        conversion.read_torch(path)
    assert not harm.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_files_are_refused(name, tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    path, state = tmp_path / name, {"fc.bias": torch.ones(1000)}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.save_file(state, path)
    for content in (path.read_bytes()[:1000], b"no weights", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is to hold plain weights; found: .* in reading it"):
            conversion.read_torch(path)


def test_half_precision_becomes_float32(tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    state = {"a": torch.full((2,), 1.5).bfloat16(), "b": torch.full((2,), 0.5).half()}
    torch.save(state, tmp_path / "weights.pt")
    safetensors.save_file(state, tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        states, _ = conversion.state_dicts(conversion.read_torch(tmp_path / name))
        assert {name: a.dtype for name, a in states["classifier"].items()} == dict.fromkeys(
            "ab", np.float32
        )
        assert states["classifier"]["a"].tolist() == [1.5, 1.5]


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


@pytest.mark.parametrize("name", ["resnet50.weights.h5", "resnet50.h5"])
def test_keras_resnet50_answers_as_keras_own(name, keras_model, tmp_path):
    path = tmp_path / name
    if name == "resnet50.h5":  # as keras.applications' file is
        from keras.src.legacy.saving import legacy_h5_format

        with conversion.h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, keras_model)
            file.move("predictions", "probs")
            file.move("probs/predictions", "probs/probs")
    else:
        keras_model.save_weights(path)
    classifier = conversion.filled_classifier("keras_resnet50", conversion.read_keras(path))
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


def call(*arguments):
    return programs.call("casm_tf.convert", *arguments)


def test_an_original_checkpoint_becomes_a_mask_model(tmp_path):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    pair = torch_networks.Pair("resnet18", 4)
    module = collections.OrderedDict(
        (f"module.{name}", value) for name, value in pair.classifier.state_dict().items()
    )
    checkpoint = {
        "epoch": 60,
        "state_dict_classifier": module,
        "state_dict_decoder": pair.decoder.state_dict(),
        "args": argparse.Namespace(lr=0.001, name="casm"),
    }
    torch.save(checkpoint, tmp_path / "casm.chk")
    made = tmp_path / "new" / "casm"
    flags = (f"--weights={tmp_path / 'casm.chk'}", f"--output={made}")
    done = call(*flags, "--architecture=resnet18")
    assert done.returncode == 0, done.stderr
    assert "left out  epoch, args, 24 num_batches_tracked counters\n" in done.stdout
    assert sorted(path.name for path in made.iterdir()) == ["classifier.weights.h5", "model.keras"]
    images, _, _ = parity.batch()
    model = keras.models.load_model(made / "model.keras", compile=False)
    outputs = model(images)
    logits, masks = pair.answers(images)
    assert outputs["logits"].numpy() == pytest.approx(logits, abs=1e-4)
    assert outputs["mask"].numpy() == pytest.approx(masks, abs=1e-4)
    classifier = networks.classifier("resnet18", 224, 4)
    networks.load_weights(classifier, made / "classifier.weights.h5")
    assert classifier(images)["logits"].numpy() == pytest.approx(logits, abs=1e-4)

    refused = call(*flags, "--architecture=resnet34")
    assert_refused(refused, "--weights: missing: layer1.2.conv1.weight, ")
    assert len(list(made.iterdir())) == 2


def test_a_safetensors_file_becomes_weights_to_train_with(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = random_of(networks.classifier("resnet18", 32, 4), 0)
    safetensors.save_file(state, tmp_path / "resnet18.safetensors")
    made = tmp_path / "resnet18.weights.h5"
    where = (f"--weights={tmp_path / 'resnet18.safetensors'}", "--architecture=resnet18")
    done = call(*where, f"--output={made}")
    assert done.returncode == 0, done.stderr
    assert f"made  {made}: resnet18 for 4 classes" in done.stdout
    classifier = networks.classifier("resnet18", 32, 4)
    networks.load_weights(classifier, made)
    assert all(np.array_equal(state[n], a) for n, a in state_dict(classifier).items())
    assert_refused(call(*where, f"--output={tmp_path / 'made.h5'}"), "--output: a name that ends")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".h5", ".safetensors"]


@pytest.mark.parametrize(
    ("package", "name"), [("torch", "a.pth.tar"), ("safetensors", "a.safetensors")]
)
def test_without_its_package_a_file_is_refused(package, name, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    monkeypatch.setitem(sys.modules, f"{package}.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'casm_tf\[convert\]'"):
        conversion.read_torch(pathlib.Path(name))


def test_a_package_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    (tmp_path / "a.pth").write_bytes(b"any")
    flags = (f"--weights={tmp_path / 'a.pth'}", f"--output={tmp_path / 'a.weights.h5'}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = programs.run(programs.command("casm_tf.convert", *flags), env=environment)
    assert_refused(done, "a.pth: pip install 'casm_tf[convert]' (no torch)")
    assert not (tmp_path / "a.weights.h5").exists()


def test_a_missing_file_is_refused(tmp_path):
    done = call(f"--weights={tmp_path / 'no.pth'}", f"--output={tmp_path / 'a.weights.h5'}")
    assert_refused(done, f"--weights: there is no file {tmp_path / 'no.pth'}")
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_refused_in_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": Harmful(tmp_path / "harm")}, tmp_path / "a.pth")
    output = tmp_path / "new" / "a.weights.h5"
    done = call(f"--weights={tmp_path / 'a.pth'}", f"--output={output}")
    assert_refused(done, "is to hold plain weights; found: it asks for posix.mkdir")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def assert_refused(done, expected):
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert expected in done.stderr
