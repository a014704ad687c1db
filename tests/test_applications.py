"""keras.applications as classifiers: their logits, their maps, their weights' files, their copies.

What a network's first layer sees of a picture is what it sees in keras.applications behind the
preprocess_input there, but for float32's rounding, 1e-6 of the largest number; and from the same
input on the logits are the same numbers.
"""

import itertools
import types

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from casm_tf import networks
from casm_tf.evaluation import baselines
from casm_tf.networks import applications

# Keras's module, and what the last block at each of the strides 4, 8, 16 and 32 has of channels.
NETWORKS = {
    "mobilenet": (keras.applications.mobilenet, (128, 256, 512, 1024)),
    "mobilenet_v2": (keras.applications.mobilenet_v2, (24, 32, 96, 320)),
    "mobilenet_v3_large": (keras.applications.mobilenet_v3, (24, 40, 112, 160)),
    "efficientnet_b0": (keras.applications.efficientnet, (24, 40, 112, 320)),
    "efficientnet_v2_b0": (keras.applications.efficientnet_v2, (32, 48, 112, 192)),
    "convnext_tiny": (keras.applications.convnext, (96, 192, 384, 768)),
    "densenet121": (keras.applications.densenet, (256, 512, 1024, 1024)),
    "keras_resnet50": (keras.applications.resnet, (256, 512, 1024, 2048)),
    "resnet50_v2": (keras.applications.resnet_v2, (256, 512, 1024, 2048)),
}
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
VARIANCE = DEVIATION**2
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)


def application(architecture, num_classes, size=64, variance=VARIANCE):
    """Keras's own network with weights and statistics that all show in the logits."""
    make = getattr(keras.applications, applications.NETWORKS[architecture][0])
    network = make(
        weights=None,
        input_shape=(size, size, 3),
        classes=num_classes,
        classifier_activation=None,
    )
    draws = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            if layer.weights:  # EfficientNet's
                layer.set_weights([MEAN, variance, np.array(0)])
                layer.finalize_state()
            continue
        for variable in layer.weights:
            shape = variable.shape
            if variable.name in ("gamma", "moving_variance"):
                values = draws.uniform(0.5, 1.5, shape)
            elif len(shape) == 1:
                values = draws.normal(0, 0.1, shape)
            else:
                inputs = np.prod(shape[:2]) if shape[-1] == 1 else np.prod(shape[:-1])
                values = draws.normal(0, (2 / inputs) ** 0.5, shape)
            variable.assign(values)
    return network


def save_h5(network, path):
    """A file as keras.applications' are."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


# One of each kind of preprocessing.
FEW = ("mobilenet_v2", "efficientnet_b0", "mobilenet_v3_large", "keras_resnet50")


def all_networks(*few):
    """The names of all networks; those that are not of the few only in the long tests."""
    return [x if x in few else pytest.param(x, marks=pytest.mark.long) for x in NETWORKS]


@pytest.fixture(scope="module", params=all_networks(*FEW))
def made(request, tmp_path_factory):
    """One network: its name, Keras's own of it and ours with the weights in a file of Keras's."""
    network = application(request.param, 3)
    path = tmp_path_factory.mktemp(request.param) / "any.h5"
    save_h5(network, path)
    classifier = networks.classifier(request.param, 64, 3)
    assert networks.load_weights(classifier, path, request.param)
    return types.SimpleNamespace(name=request.param, kerass=network, ours=classifier)


def normalised(pictures, architecture):
    mean, std = networks.normalisation(architecture)
    return ((pictures / 255 - mean) / std).astype(np.float32)


def at_the_first_layer(model):
    """Images -> what the first layer sees after all preprocessing, and that -> the logits."""
    before = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
    before += (keras.layers.Identity,)
    *_, last = itertools.takewhile(lambda layer: isinstance(layer, before), model.layers)
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    return keras.Model(model.input, last.output), keras.Model(last.output, logits)


def test_logits_are_kerass_own(made):
    pixels = NETWORKS[made.name][0].preprocess_input(PICTURES.astype(np.float32))
    seen_by_keras = at_the_first_layer(made.kerass)[0](pixels).numpy()
    seen, rest = at_the_first_layer(made.ours)
    off = np.abs(seen(normalised(PICTURES, made.name)) - seen_by_keras).max()
    assert off < 1e-6 * np.abs(seen_by_keras).max()
    expected = made.kerass(pixels, training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-2  # the pictures show
    assert np.array_equal(rest(seen_by_keras, training=False), expected)


@pytest.mark.parametrize("architecture", all_networks(*FEW))
def test_a_map_is_the_last_blocks_of_its_stride_and_all_flows_through_it(architecture):
    classifier = networks.classifier(architecture, 64, 3)
    sizes = zip((16, 8, 4, 2), NETWORKS[architecture][1], strict=True)
    assert networks.map_shapes(classifier) == [(size, size, count) for size, count in sizes]
    for x in classifier.output["maps"]:
        keras.Model(x, classifier.output["logits"])  # refused where anything passes it by


@pytest.mark.parametrize("made", all_networks("efficientnet_b0"), indirect=True, scope="module")
def test_copies_and_saved_models_answer_alike(made, tmp_path):
    images = normalised(PICTURES, made.name)
    expected = made.ours(images, training=False)
    made.ours.save(tmp_path / "model.keras")
    made.ours.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    filled = networks.copy(made.ours)
    for variable in filled.variables:
        variable.assign(variable + 1)
    assert networks.load_weights(filled, tmp_path / "model.weights.h5") is True
    for model in (loaded, filled):
        found = model(images, training=False)
        assert np.array_equal(found["logits"], expected["logits"])
    maps = networks.encoder_copy(made.ours)(images, training=False)
    for found, other in zip(maps, expected["maps"], strict=True):
        assert np.array_equal(found, other)


@pytest.mark.long
@pytest.mark.parametrize("architecture", ["efficientnet_b0", "mobilenet_v3_large"])
def test_published_weights_are_downloaded_or_read(architecture, monkeypatch, tmp_path):
    """From a stand-in for the published file."""
    path = tmp_path / "published.h5"
    # EfficientNet's file has deviations for variances; what downloads it makes up for that.
    save_h5(application(architecture, 1000, 224, variance=DEVIATION), path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)
    make = getattr(keras.applications, applications.NETWORKS[architecture][0])
    published = make(weights="imagenet", classifier_activation=None)
    pictures = np.resize(PICTURES, (2, 224, 224, 3))
    classifier = networks.classifier(architecture, 224, 1000)
    assert networks.load_weights(classifier, "imagenet", architecture) is True
    logits = classifier(normalised(pictures, architecture), training=False)["logits"]
    expected = published(pictures.astype(np.float32), training=False).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-2
    # Here the pictures' rounding has gone through all layers.
    assert logits.numpy() == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))

    of_others = networks.classifier(architecture, 64, 3)
    *_, head = (layer for layer in of_others.layers if layer.weights)
    before = head.get_weights()
    for source in ("imagenet", path):
        assert networks.load_weights(of_others, source, architecture) is False
    for mine, new in zip(head.get_weights(), before, strict=True):
        assert np.array_equal(mine, new)
    with pytest.raises(ValueError, match=f"^{path} does not hold the weights of a mobilenet_v2$"):
        networks.load_weights(networks.classifier("mobilenet_v2", 32, 3), path, "mobilenet_v2")


def test_what_cannot_be_downloaded_is_one_line(monkeypatch):
    url = "https://example.org/resnet/resnet50_weights.h5"

    def get_file(*_, **__):
        raise Exception(f"URL fetch failure on {url}: None -- no network")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    classifier = networks.classifier("keras_resnet50", 32, 3)
    with pytest.raises(OSError) as error:
        networks.load_weights(classifier, "imagenet", "keras_resnet50")
    assert str(error.value) == (
        f"{url} cannot be downloaded; put that file into ~/.keras/models, or into models in the "
        "directory KERAS_HOME, or give its path instead of imagenet"
    )
    with pytest.raises(ValueError, match="imagenet comes with Keras's networks; for resnet50 give"):
        networks.load_weights(classifier, "imagenet", "resnet50")


def test_0_is_the_mean_colour_of_caffe():
    """Networks whose input is less its mean see 0 where an image is masked."""
    model = networks.classifier("keras_resnet50", 32, 3)
    inputs = keras.Model(model.input, model.get_layer("caffe").output)
    assert not np.any(inputs(np.zeros((1, 32, 32, 3), np.float32)))


@pytest.mark.long
@pytest.mark.parametrize("architecture", ["efficientnet_v2_s", "efficientnet_v2_b3"])
def test_the_larger_efficientnets_see_pictures_as_kerass(architecture):
    make = getattr(keras.applications, applications.NETWORKS[architecture][0])
    kerass = make(weights=None, input_shape=(64, 64, 3), classes=3)
    expected = at_the_first_layer(kerass)[0](PICTURES.astype(np.float32)).numpy()
    ours = networks.classifier(architecture, 64, 3)
    found = at_the_first_layer(ours)[0](normalised(PICTURES, architecture))
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_a_classifier_in_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        classifier = networks.classifier("mobilenet_v2", 32, 3)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    outputs = classifier(np.zeros((1, 32, 32, 3), np.float32))
    assert outputs["logits"].dtype == "float32"
    assert outputs["maps"][0].dtype == "bfloat16"


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_maps_explain_a_head_of_several_layers(method):
    classifier = networks.classifier("mobilenet_v3_small", 64, 3)
    mask = baselines.METHODS[method](classifier, normalised(PICTURES, "mobilenet_v3_small"), [0, 2])
    assert mask.shape == (2, 64, 64)
    assert mask.max() == 1
