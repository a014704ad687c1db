"""The baselines' masks worked out by hand on networks of a few known weights."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers

from casm_tf import networks
from casm_tf.evaluation import baselines

# Two channels of the last map from the three of the image, and two classes from those.
TO_MAP = np.float32([[1, 0], [0, -2], [0, 1]])
TO_LOGITS = np.float32([[1, -1], [2, 1]])


def classifier(stride=1, head=lambda x: x, activation="relu", size=4):
    """Average pools of stride x stride, a 1x1 convolution, an average pool, a dense layer."""
    images = keras.Input((size, size, 3))
    x = layers.AveragePooling2D(stride)(images) if stride > 1 else images
    last_map = layers.Conv2D(2, 1, use_bias=False, activation=activation, name="map")(x)
    x = head(layers.GlobalAveragePooling2D()(last_map))
    logits = layers.Dense(2, name="fc")(x)
    model = keras.Model(images, {"logits": logits, "maps": [last_map]})
    model.get_layer("map").set_weights([TO_MAP[None, None]])
    model.get_layer("fc").set_weights([TO_LOGITS, np.float32([0.5, -7])])
    return model


def image(**pixels):
    """A black 4x4 image but for pixels such as p01=(r, g, b), row 0 and column 1."""
    picture = np.zeros((1, 4, 4, 3), np.float32)
    for name, colour in pixels.items():
        picture[0, int(name[1]), int(name[2])] = colour
    return picture


def test_cam_is_the_weighted_sum_of_the_last_map():
    # Channels: p00 (3, 0), p12 (0, 4), p33 (2, relu(-2) = 0); class 0 weighs them 1 and 2.
    images = image(p00=(3, 0, 0), p12=(0, -2, 0), p33=(2, 1, 0))
    mask = baselines.cam(classifier(), images, [0])[0]
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 2], expected[3, 3] = 3 / 8, 1, 2 / 8
    assert mask.dtype == np.float32
    assert mask == pytest.approx(expected, abs=1e-6)
    # Class 1 weighs them -1 and 1: -3 to 4, and what is black lies between.
    mask = baselines.cam(classifier(), images, [1])[0]
    expected = np.full((4, 4), 3 / 7)
    expected[0, 0], expected[1, 2], expected[3, 3] = 0, 1, 1 / 7
    assert mask == pytest.approx(expected, abs=1e-6)


def test_maps_are_enlarged_bilinearly_before_they_are_brought_to_0_and_1():
    # The pool makes of it a map [[1, 0], [0, 0]]: along a side 1, 3/4, 1/4, 0.
    images = image(p00=(4, 0, 0))
    mask = baselines.cam(classifier(stride=2), images, [0])[0]
    side = np.array([1, 0.75, 0.25, 0])
    assert mask == pytest.approx(side[:, None] * side, abs=1e-6)


def test_grad_cam_is_the_positive_part_of_cam_after_an_average_pool():
    images = image(p00=(3, 0, 0), p12=(0, -2, 0), p33=(2, 1, 0))
    mask = baselines.grad_cam(classifier(), images, [1])[0]
    expected = np.zeros((4, 4))
    expected[1, 2] = 1  # -3, 4, -2 and 0
    assert mask == pytest.approx(expected, abs=1e-6)


def test_grad_cam_weighs_by_the_gradient_at_the_image():
    # The pooled averages g are squared: S_0 = g_0^2 + 2 g_1^2 + 1/2, so that a_0 is in proportion
    # to 2 g_0 and a_1 to 4 g_1, with g = (5, 4) / 16: 10 and 16. CAM would have 1 and 2.
    images = image(p00=(3, 0, 0), p12=(0, -2, 0), p33=(2, 0, 0))
    mask = baselines.grad_cam(classifier(head=lambda x: x * x), images, [0])[0]
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 2], expected[3, 3] = 30 / 64, 1, 20 / 64
    assert mask == pytest.approx(expected, abs=1e-6)


def test_the_gradient_is_its_largest_channel_without_the_sign():
    # dS_c / dx = W w_c where the relu lets it through: for class 0 red 1, green -2 * 2, blue 2.
    images = image(p00=(3, 0, 0), p12=(0, -2, 0), p33=(2, -1, 0))
    mask = baselines.gradient(classifier(), images, [0])[0]
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 2], expected[3, 3] = 1 / 4, 1, 1
    assert mask == pytest.approx(expected, abs=1e-6)


def test_smooth_gradients_without_noise_are_gradients():
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    classes = [0, 1, 1]
    smooth = baselines.smooth_gradient(classifier(), images, classes, copies=3, noise=0.0)
    assert smooth == pytest.approx(baselines.gradient(classifier(), images, classes), abs=1e-6)


def test_smooth_gradients_are_the_mean_over_noisy_copies():
    # S_0 = mean over pixels of red^2, whose gradient is in proportion to red: at red = 0 the noise
    # averages out, at red = 1 it leaves 1. A mean of absolute values would keep 0.8 of the noise.
    images = image(p00=(1, 0, 0))
    square = classifier(activation=lambda x: x * x)
    square.get_layer("fc").set_weights([np.float32([[1, 0], [0, 0]]), np.zeros(2, np.float32)])
    mask = baselines.smooth_gradient(square, images, [0], copies=400, noise=0.5)[0]
    assert mask[0, 0] == 1
    others = np.delete(mask.reshape(-1), 0)
    assert 0.001 < others.max() < 0.15  # the noise's deviation over sqrt(400) is 0.025
    again = baselines.smooth_gradient(square, images, [0], copies=400, noise=0.5)[0]
    assert (again == mask).all()
    other = baselines.smooth_gradient(square, images, [0], copies=400, noise=0.5, seed=1)[0]
    assert (other != mask).any()


@pytest.mark.parametrize("name", baselines.METHODS)
def test_a_constant_map_becomes_zeros(name):
    mask = baselines.METHODS[name](classifier(), np.zeros((2, 4, 4, 3), np.float32), [0, 1])
    assert mask.shape == (2, 4, 4)
    assert (mask == 0).all()


@pytest.fixture(scope="module")
def small_resnet():
    keras.utils.set_random_seed(0)
    return networks.classifier("small_resnet", 32, 3)


@pytest.mark.parametrize("name", baselines.METHODS)
@hypothesis.given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-3, 1, 50]))
@hypothesis.settings(max_examples=5)
def test_masks_reach_from_0_to_1_whatever_else_is_in_the_batch(small_resnet, name, seed, scale):
    draws = np.random.default_rng(seed)
    images = (scale * draws.normal(size=(3, 32, 32, 3))).astype(np.float32)
    classes = draws.integers(0, 3, 3)
    masks = baselines.METHODS[name](small_resnet, images, classes)
    assert masks.shape == (3, 32, 32)
    assert masks.dtype == np.float32
    for mask in masks:
        assert mask.min() == 0
        assert mask.max() == 1 or (mask == 0).all()
    alone = baselines.METHODS[name](small_resnet, images[1:2], classes[1:2])
    assert alone[0] == pytest.approx(masks[1], abs=1e-3)


def test_cam_knows_the_dense_layer_of_kerass_resnet():
    """64x64 images have a last map of 2x2, whose pixels are the mask's corners."""
    keras.utils.set_random_seed(0)
    network = networks.classifier("keras_resnet50", 64, 3)
    images = keras.random.normal((1, 64, 64, 3)).numpy()
    last_map = network(images)["maps"][-1].numpy()[0]
    expected = last_map @ network.get_layer("predictions").kernel.numpy()[:, 2]
    expected = (expected - expected.min()) / np.ptp(expected)
    mask = baselines.cam(network, images, [2])[0]
    assert mask[::63, ::63] == pytest.approx(expected, abs=1e-4)


def test_classes_are_one_an_image():
    with pytest.raises(ValueError, match=r"classes are \[1\], one an image; found shape \[1, 2\]"):
        baselines.cam(classifier(), image(), np.zeros((1, 2), int))


def test_every_mask_has_its_cost():
    assert set(baselines.FORWARD_PASSES) == {"full_image", "centre_box", *baselines.METHODS}


def test_smooth_gradients_take_what_is_said():
    """The classifier is called once a copy."""
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            tf.py_function(lambda: calls.append(1), [], [])
            return x

    network = classifier(head=Counted())
    baselines.smooth_gradient(network, image(p00=(1, 0, 0)), [0])
    assert 2 * len(calls) + 1 == baselines.FORWARD_PASSES["smooth_gradient"]
