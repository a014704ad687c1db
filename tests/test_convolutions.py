"""Convolutions whose gradients are our own, against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st

from casm_tf.networks import convolutions


@pytest.fixture(autouse=True, scope="module")
def without_gpu():
    """There all are Keras's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolutions, "has_gpu", lambda: False)
        yield


def found(layer, kernel, images, **kwargs):
    """What a layer gives, and the gradients of a weighted sum for its kernel and the images."""
    layer.build(images.shape)
    layer.kernel.assign(kernel)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, **kwargs)
        weights = np.random.default_rng(1).normal(size=outputs.shape)
        value = tf.reduce_sum(tf.cast(weights, tf.float32) * tf.cast(outputs, tf.float32))
    return outputs, *tape.gradient(value, [layer.kernel.value, images])


def check_alike(ours, kerass, kernel_shape, images_shape, tolerance, **kwargs):
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(size=kernel_shape).astype("float32")
    images = tf.constant(numbers.normal(size=images_shape), tf.float32)
    pairs = zip(found(ours, kernel, images, **kwargs), found(kerass, kernel, images), strict=True)
    for mine, other in pairs:
        mine, other = (tf.cast(x, tf.float32).numpy() for x in (mine, other))
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() <= tolerance * max(1, np.abs(other).max())


sizes = st.integers(5, 12)


@given(
    height=sizes,
    width=sizes,
    size=st.integers(1, 5),
    strides=st.integers(1, 3),
    padding=st.sampled_from(["same", "valid"]),
)
@example(7, 7, 1, 2, "valid")
@example(8, 9, 3, 2, "same")
def test_a_convolution_and_its_gradients_are_kerass(height, width, size, strides, padding):
    settings = {"kernel_size": size, "strides": strides, "padding": padding, "use_bias": False}
    check_alike(
        convolutions.Conv2D(3, **settings),
        keras.layers.Conv2D(3, **settings),
        (size, size, 2, 3),
        (2, height, width, 2),
        1e-5,
        training=True,
    )


@given(
    height=sizes,
    width=sizes,
    size=st.sampled_from([3, 5]),
    strides=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
)
@example(8, 7, 5, 2, "same")
@example(9, 9, 5, 1, "valid")
def test_a_depthwise_convolution_and_its_gradients_are_kerass(
    height, width, size, strides, padding
):
    settings = {"kernel_size": size, "strides": strides, "padding": padding, "use_bias": False}
    check_alike(
        convolutions.DepthwiseConv2D(**settings),
        keras.layers.DepthwiseConv2D(**settings),
        (size, size, 2, 1),
        (2, height, width, 2),
        1e-5,
    )


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_in_bfloat16_they_are_what_keras_finds_in_float32_but_for_rounding(size, strides):
    settings = {"kernel_size": size, "strides": strides, "padding": "same", "use_bias": False}
    check_alike(
        convolutions.Conv2D(3, **settings, dtype="mixed_bfloat16"),
        keras.layers.Conv2D(3, **settings),
        (size, size, 2, 3),
        (2, 8, 8, 2),
        0.03,
        training=True,
    )
    if size > 1:
        check_alike(
            convolutions.DepthwiseConv2D(**settings, dtype="mixed_bfloat16"),
            keras.layers.DepthwiseConv2D(**settings),
            (size, size, 2, 1),
            (2, 8, 8, 2),
            0.03,
        )


@pytest.mark.parametrize(
    "more",
    [
        {"activation": "relu"},
        {"use_bias": True, "bias_initializer": "ones"},
        {"groups": 2},
        {"dilation_rate": 2, "strides": 1},
        {"strides": 3},
        {"kernel_size": (1, 3)},
    ],
    ids=str,
)
def test_whatever_else_keras_can_do_is_kerass(more):
    settings = {"kernel_size": 3, "strides": 2, "use_bias": False, **more}
    rows, columns = np.broadcast_to(settings["kernel_size"], 2)
    channels = 2 // settings.get("groups", 1)
    check_alike(
        convolutions.Conv2D(4, **settings),
        keras.layers.Conv2D(4, **settings),
        (rows, columns, channels, 4),
        (2, 9, 9, 2),
        1e-5,
        training=True,
    )


@pytest.mark.parametrize(
    "more",
    [
        {"activation": "relu"},
        {"use_bias": True, "bias_initializer": "ones"},
        {"depth_multiplier": 2},
        {"dilation_rate": 2},
        {"strides": 3},
        {"kernel_size": (3, 5)},
    ],
    ids=str,
)
def test_whatever_else_keras_can_do_in_each_channel_is_kerass(more):
    settings = {"kernel_size": 5, "use_bias": False, **more}
    rows, columns = np.broadcast_to(settings["kernel_size"], 2)
    check_alike(
        convolutions.DepthwiseConv2D(**settings),
        keras.layers.DepthwiseConv2D(**settings),
        (rows, columns, 2, settings.get("depth_multiplier", 1)),
        (2, 11, 11, 2),
        1e-5,
    )


def test_kerass_own_op_is_taken_at_rest(monkeypatch):
    monkeypatch.setattr(convolutions, "_pointwise", None)
    layer = convolutions.Conv2D(3, 1, use_bias=False)
    assert layer(tf.ones((1, 4, 4, 2))).shape == (1, 4, 4, 3)
    with pytest.raises(TypeError):
        layer(tf.ones((1, 4, 4, 2)), training=True)


def test_networks_of_images_of_any_size_have_gradients():
    images = keras.Input((None, None, 2))
    x = convolutions.Conv2D(3, 3, strides=2, use_bias=False)(images)
    model = keras.Model(images, convolutions.DepthwiseConv2D(5, use_bias=False)(x))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 2))])
    def gradients(images):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model(images, training=True))
        return tape.gradient(value, model.trainable_variables)

    found = gradients(tf.ones((1, 15, 17, 2)))
    assert [x.shape for x in found] == [v.shape for v in model.trainable_variables]


def test_weights_of_a_network_of_kerass_layers_are_read(tmp_path):
    def network(kinds):
        images = keras.Input((8, 8, 2))
        x = kinds.Conv2D(4, 1, use_bias=False)(images)
        return keras.Model(images, kinds.DepthwiseConv2D(3, use_bias=False)(x))

    kerass, ours = network(keras.layers), network(convolutions)
    kerass.save_weights(tmp_path / "any.weights.h5")
    ours.load_weights(tmp_path / "any.weights.h5")
    assert [tuple(w.ravel()) for w in ours.get_weights()] == [
        tuple(w.ravel()) for w in kerass.get_weights()
    ]
