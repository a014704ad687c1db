"""Where maps lie, and masks made of them: by ramps, and by what a map's cell sees of an image."""

import functools
from unittest import mock

import exports
import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks
from casm_tf.networks.layers import Enlargement, UpsampledConvolution
from casm_tf.networks.places import resampled
from casm_tf.serving import export

SIZE = 128
SEEN = ("small_resnet", "medium_resnet", "resnet18", "efficientnet_lite0", "mobilenet")
# At strides 4 and 32: how the strided layers pad, in four kinds of networks.
FIRSTS = {"resnet18": (0, 0), "efficientnet_lite0": (3, 31), "convnext_tiny": (1.5, 15.5)}
FIRSTS |= {"densenet121": (0, 14)}


def looking_ahead(model):
    """The same network, whose kernels read the middle of their windows alone, all channels."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            kernel = np.zeros(layer.kernel.shape, np.float32)
            height, width, channels, _ = kernel.shape
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel[height // 2, width // 2] = 1 if is_depthwise else 1 / channels
            layer.kernel.assign(kernel)
    return model


@functools.cache
def ahead(architecture):
    """A classifier that looks ahead; a max-pool, which sees the largest of nine, is a mean."""
    with mock.patch.object(keras.layers, "MaxPooling2D", keras.layers.AveragePooling2D):
        return looking_ahead(networks.classifier(architecture, SIZE, 2))


def seen(function):
    """The middles (x, y), in pixels, of what each of the scalars sees that an image gives."""
    image = tf.fill((1, SIZE, SIZE, 3), 1e-3)  # so little that no ReLU6 or sigmoid is full
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        outputs = function(image)
    pixels = np.arange(SIZE)
    for output in outputs:
        weights = tape.gradient(output, image).numpy().sum(axis=(0, 3))
        weights /= weights.sum()
        yield weights.sum(axis=0) @ pixels, weights.sum(axis=1) @ pixels


@pytest.mark.parametrize("architecture", SEEN)
def test_maps_lie_where_they_see(architecture):
    classifier = ahead(architecture)
    places = networks.map_places(classifier)

    def middles(image):
        maps = classifier(image)["maps"]
        return [tf.reduce_sum(x[0, x.shape[1] // 2, x.shape[2] // 2]) for x in maps]

    for (x, y), (stride, first) in zip(seen(middles), places, strict=True):
        expected = stride * (SIZE // 2 // stride) + first
        assert (x, y) == pytest.approx((expected, expected), abs=0.01), stride


@pytest.mark.parametrize(("architecture", "firsts"), FIRSTS.items())
def test_places_of_the_four_kinds(architecture, firsts):
    images = keras.Input((64, 64, 3))
    maps = [images[:, ::4, ::4], images[:, ::32, ::32]]
    model = keras.Model(images, {"maps": maps}, name=architecture)
    assert networks.map_places(model) == [(4, firsts[0]), (32, firsts[1])]


def test_places_of_sizes_that_are_no_power_of_two():
    model = networks.classifier("small_resnet", 34, 2)  # maps of 17, 9, 5 and 3
    assert [stride for stride, _ in networks.map_places(model)] == [2, 2, 4, 8, 16]


@pytest.mark.parametrize("firsts", FIRSTS.values())
def test_a_mask_of_maps_that_tell_their_place_tells_its_own(firsts):
    places = list(zip((4, 32), firsts, strict=True))
    maps = [
        np.broadcast_to((stride * np.arange(128 // stride) + first)[:, None], (128 // stride,) * 2)
        for stride, first in places
    ]
    maps = [np.float32(x)[None, ..., None] for x in maps]
    layer = UpsampledConvolution(places)
    layer(maps)
    for kernel in ((1, 0), (0, 1)):  # of either map, as it is
        middle = np.zeros((3, 3, 2, 1))
        middle[1, 1, :, 0] = kernel
        layer.kernel.assign(middle)
        whole = Enlargement(places[0], "bilinear")(layer(maps)).numpy()[0, ..., 0]
        assert whole.shape == (128, 128)
        inner = slice(32, 96)  # beyond a map's outermost cells it is no longer a ramp
        assert whole[inner, inner] == pytest.approx(
            np.broadcast_to(np.arange(32, 96)[:, None], (64, 64)), abs=1e-4
        )
        assert whole[0, 0] == pytest.approx(places[kernel.index(1)][1], abs=1e-4)


def test_nearest_and_bilinear_by_hand():
    maps = tf.constant([[[[0.0], [8.0]]]])  # at pixels 1 and 5
    for interpolation, expected in (
        ("bilinear", [0, 0, 2, 4, 6, 8, 8, 8]),
        ("nearest", [0, 0, 0, 8, 8, 8, 8, 8]),
    ):
        found = resampled(maps, (1, 8), (4, 1), (1, 0), interpolation)
        assert found[0, 0, :, 0].numpy().tolist() == expected


@pytest.mark.parametrize("architecture", SEEN)
def test_a_masks_pixel_sees_where_it_is_drawn(architecture):
    classifier = ahead(architecture)
    shapes, middle = networks.map_shapes(classifier), SIZE // 2

    def error(places):
        decoder = networks.decoder(shapes, SIZE, 4, "bilinear", places=places)
        kernel = looking_ahead(decoder).get_layer("final").kernel
        kernel.assign(tf.fill(kernel.shape, 1e-2))
        return next(seen(lambda image: [decoder(classifier(image)["maps"])[0, middle, middle, 0]]))

    aligned, original = (
        np.subtract(error(places), middle) for places in (networks.map_places(classifier), None)
    )
    assert aligned == pytest.approx([0, 0], abs=0.01)
    assert min(abs(original)) > 2, original
    # What a ResNet sees is drawn too far right and down, what others see too far left and up.
    assert np.all((original < 0) == ("resnet" in architecture))


@pytest.mark.parametrize(("smoothing", "precision"), [(0.0, "float32"), (1.0, "bfloat16")])
def test_an_aligned_model_is_saved_exported_and_takes_images_of_any_size(
    smoothing, precision, tmp_path
):
    made = exports.tiny_model(aligned=True, smoothing=smoothing)
    made.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    settings = (exports.LABELS, exports.MEAN, exports.STD)
    path = export.export_model(model, tmp_path / "casm", *settings, precision=precision)
    loaded = tf.saved_model.load(str(path))
    for size, signature in ((32, "serving_default"), (32, "any_size"), (64, "any_size")):
        pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
        own = exports.tiny_model(size=size, aligned=True, smoothing=smoothing)
        own.set_weights(made.get_weights())
        expected = own(exports.normalised(pixels), training=False)["mask"].numpy()
        found = loaded.signatures[signature](images=pixels)["mask"].numpy()
        off = np.abs(found - expected)
        assert off.max() < 1e-5 if precision == "float32" else off.mean() < 0.02
