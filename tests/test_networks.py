"""The networks' parts against plain ones, and their sizes against torchvision's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from casm_tf import networks
from casm_tf.evaluation import baselines
from casm_tf.networks import convolutions, layers, resnet


@pytest.fixture(autouse=True)
def seed():
    """The same weights and inputs whichever tests ran before."""
    keras.utils.set_random_seed(0)


def normal(*shape):
    return keras.random.normal(shape)


@pytest.mark.parametrize("size", [(2, 2), (8, 6), (32, 32)])
def test_the_stem_is_a_padded_convolution_and_so_are_its_gradients(size):
    images, kernel = normal(2, *size, 3), normal(7, 7, 3, 5)
    layer = convolutions.StemConvolution(5, 7, strides=2, use_bias=False)
    layer.build(images.shape)
    layer.kernel.assign(kernel)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([images, kernel])
        padded = tf.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
        expected = tf.nn.conv2d(padded, kernel, 2, "VALID")
        found = layer(images)
        weights = normal(*expected.shape)
        values = [tf.reduce_sum(weights * y) for y in (found, expected)]
    assert found.shape == layer.compute_output_shape(images.shape)
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    pairs = zip(
        tape.gradient(values[0], [images, layer.kernel.value]),
        tape.gradient(values[1], [images, kernel]),
        strict=True,
    )
    for mine, other in pairs:
        assert mine.numpy() == pytest.approx(other.numpy(), abs=1e-4, rel=1e-4)


@pytest.fixture
def batch_normalizations():
    """Ours and Keras's with the same weights and statistics."""
    ours = layers.BatchNormalization()
    kerass = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    for layer in (ours, kerass):
        layer.build((None, 4, 4, 3))
        layer.set_weights([np.array(w) for w in ([1, 2, 3], [0.1, 0, -1], [1, 0, 2], [1, 4, 9])])
    return ours, kerass


def test_batch_normalization_is_kerass(batch_normalizations):
    ours, kerass = batch_normalizations
    x, weights = normal(5, 4, 4, 3), normal(5, 4, 4, 3)
    for training in (False, True):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            outputs = [layer(x, training=training) for layer in (ours, kerass)]
            values = [tf.reduce_sum(weights * y) for y in outputs]
        assert outputs[0].numpy() == pytest.approx(outputs[1].numpy(), abs=1e-5)
        for value, layer in zip(values, (ours, kerass), strict=True):
            layer.found = tape.gradient(value, [x, layer.gamma.value, layer.beta.value])
        for mine, other in zip(ours.found, kerass.found, strict=True):
            assert mine.numpy() == pytest.approx(other.numpy(), abs=1e-5, rel=1e-5)


def test_batch_normalization_in_training_is_its_formula(batch_normalizations):
    ours, _ = batch_normalizations
    x, weights = normal(5, 4, 4, 3), normal(5, 4, 4, 3)
    variables = [x, ours.gamma.value, ours.beta.value]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = ours(x, training=True)
        mean, variance = tf.nn.moments(x, axes=(0, 1, 2))  # the biased variance
        expected = ours.gamma * (x - mean) / tf.sqrt(variance + 1e-5) + ours.beta
        values = [tf.reduce_sum(weights * y) for y in (found, expected)]
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    for a, b in zip(*(tape.gradient(value, variables) for value in values), strict=True):
        assert a.numpy() == pytest.approx(b.numpy(), abs=1e-5, rel=1e-5)


def test_moving_statistics_are_pytorchs(batch_normalizations):
    ours, _ = batch_normalizations
    x = normal(5, 4, 4, 3)
    ours(x, training=True)
    mean = 0.9 * np.array([1, 0, 2]) + 0.1 * np.mean(x, axis=(0, 1, 2))
    variance = 0.9 * np.array([1, 4, 9]) + 0.1 * np.var(x, axis=(0, 1, 2), ddof=1)  # unbiased
    assert ours.moving_mean.numpy() == pytest.approx(mean, abs=1e-5)
    assert ours.moving_variance.numpy() == pytest.approx(variance, abs=1e-5)
    before = [ours.moving_mean.numpy(), ours.moving_variance.numpy()]
    ours(x, training=False)
    assert np.array_equal(before, [ours.moving_mean, ours.moving_variance])


def test_upsampled_convolution_is_the_plain_one():
    maps = [normal(2, 8, 8, 5), normal(2, 8, 8, 3), normal(2, 4, 4, 2), normal(2, 2, 2, 4)]
    layer = layers.UpsampledConvolution()
    layer(maps)
    layer.bias.assign([0.3])
    upsampled = [tf.image.resize(x, (8, 8)) for x in maps]
    plain = tf.nn.conv2d(tf.concat(upsampled, axis=-1), layer.kernel, 1, "SAME") + 0.3
    assert layer(maps).numpy() == pytest.approx(plain.numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("architecture", "parameters"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)]
)
def test_resnets_have_torchvisions_parameters_and_maps(architecture, parameters):
    model = networks.classifier(architecture, 224, 1000)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    width = 4 if architecture == "resnet50" else 1
    assert networks.map_shapes(model) == [
        (56, 56, 64),
        (56, 56, 64 * width),
        (28, 28, 128 * width),
        (14, 14, 256 * width),
        (7, 7, 512 * width),
    ]


def test_maps_of_a_small_resnet():
    assert networks.map_shapes(networks.classifier("small_resnet", 64, 10)) == [
        (32, 32, 16),
        (32, 32, 16),
        (16, 16, 32),
        (8, 8, 64),
        (4, 4, 128),
    ]


def test_convolutions_start_as_the_originals():
    # normal(0, sqrt(2 / (size^2 filters))), uncut: 2 / (3^2 512) and 2 / 3^2; the kernels'
    # 2,359,296 and 9 * 960 numbers tell a deviation to within 0.1% and 2%
    model = networks.classifier("resnet18", 64, 10)
    kernel = model.get_layer("layer4_1_conv2").kernel.numpy()
    assert kernel.std() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert np.abs(kernel).max() > 3 * kernel.std()
    decoder = networks.decoder([(8, 8, 64), *[(4, 4, 8)] * 4], 8, channels=224)
    kernel = decoder.get_layer("final").kernel.numpy()
    assert kernel.shape == (3, 3, 64 + 4 * 224, 1)
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.05)


def test_strides_pad_on_both_sides_as_pytorchs():
    # A 3x3 of ones at stride 2 on ones: its first window has one row and one column of padding.
    x = keras.Input((6, 6, 1))
    model = keras.Model(x, resnet.convolution(x, 1, 3, strides=2, name="any"))
    model.set_weights([np.ones((3, 3, 1, 1))])
    assert model(tf.ones((1, 6, 6, 1)))[0, :, :, 0].numpy().tolist() == [
        [4, 6, 6],
        [6, 9, 9],
        [6, 9, 9],
    ]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_masks_have_the_images_size_and_range(interpolation):
    classifier = networks.classifier("small_resnet", 32, 4)
    decoder = networks.decoder(networks.map_shapes(classifier), 32, 4, interpolation)
    masks = decoder(classifier(normal(2, 32, 32, 3))["maps"]).numpy()
    assert masks.shape == (2, 32, 32, 1)
    assert masks.min() >= 0
    assert masks.max() <= 1
    blocks = masks.reshape(2, 16, 2, 16, 2)
    constant = np.all(blocks == blocks[:, :, :1, :, :1])
    assert constant == (interpolation == "nearest")


def test_bilinear_masks_are_the_stems_resized():
    shapes = [(8, 8, 3), (8, 8, 3), (4, 4, 3), (2, 2, 3), (1, 1, 3)]
    nearest = networks.decoder(shapes, 32, 4, "nearest")
    bilinear = networks.decoder(shapes, 32, 4, "bilinear")
    bilinear.set_weights(nearest.get_weights())
    maps = [normal(2, *shape) for shape in shapes]
    coarse = nearest(maps)[:, ::4, ::4]
    expected = tf.image.resize(coarse, (32, 32), "bilinear")
    assert bilinear(maps).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_an_encoder_copy_starts_alike_and_is_its_own():
    classifier = networks.classifier("small_resnet", 32, 4)
    encoder = networks.encoder_copy(classifier)
    images = normal(2, 32, 32, 3)
    before = classifier(images)["maps"][-1].numpy()
    assert encoder(images)[-1].numpy() == pytest.approx(before)
    encoder.trainable_variables[0].assign(encoder.trainable_variables[0] + 1)
    assert classifier(images)["maps"][-1].numpy() == pytest.approx(before)


@pytest.mark.parametrize("architecture", ["small_resnet", "efficientnet_lite0"])
def test_weights_for_other_classes_are_taken_but_for_the_head(architecture, tmp_path):
    path = tmp_path / "five.weights.h5"
    five, other = (networks.classifier(architecture, 32, count) for count in (5, 3))
    five.save_weights(path)
    head = [weight.numpy() for weight in other.weights[-2:]]
    with pytest.raises(ValueError, match=f"^{path} is for 5 classes; the data set has 3$"):
        networks.load_weights(other, path)
    assert networks.load_weights(other, path, architecture) is False
    for mine, theirs in zip(other.weights[:-2], five.weights[:-2], strict=True):
        assert np.array_equal(mine, theirs)
    for mine, made in zip(other.weights[-2:], head, strict=True):
        assert np.array_equal(mine, made)
    again = networks.classifier(architecture, 32, 5)
    assert networks.load_weights(again, path, architecture) is True
    assert np.array_equal(again.weights[-1], five.weights[-1])
    with pytest.raises(ValueError, match=r"does not hold the weights of a resnet18$"):
        networks.load_weights(networks.classifier("resnet18", 32, 3), path, "resnet18")
    with pytest.raises(FileNotFoundError, match="there is no file no"):
        networks.load_weights(other, "no.weights.h5", architecture)


def test_cam_of_efficientnet_lite_is_of_the_map_that_is_averaged():
    model = networks.classifier("efficientnet_lite0", 64, 3)
    images = normal(1, 64, 64, 3)
    averaged = keras.Model(model.input, model.get_layer("avgpool").input)(images)[0]
    expected = averaged.numpy() @ model.get_layer("fc").kernel.numpy()[:, 1]
    expected = (expected - expected.min()) / np.ptp(expected)
    mask = baselines.cam(model, images, [1])[0]
    assert mask[::63, ::63] == pytest.approx(expected, abs=1e-4)


def test_sizes_that_do_not_fit_are_refused():
    for architecture, multiple in (("small_resnet", 2), ("resnet18", 4), ("mobilenet_v2", 32)):
        line = f"{architecture} takes multiples of {multiple} pixels; found 33"
        with pytest.raises(ValueError, match=line):
            networks.classifier(architecture, 33, 3)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_masks_are_float32_whatever_the_networks_compute_in(interpolation):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        classifier = networks.classifier("small_resnet", 32, 10)
        decoder = networks.decoder(networks.map_shapes(classifier), 32, 4, interpolation)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    outputs = classifier(normal(2, 32, 32, 3))
    assert outputs["maps"][4].dtype == tf.bfloat16
    assert outputs["logits"].dtype == decoder(outputs["maps"]).dtype == tf.float32


def test_synchronized_batch_normalization_takes_a_single_pixel_as_the_fused_op_does():
    moved = []
    for synchronized in (False, True):
        layer = layers.BatchNormalization(synchronized=synchronized)
        layer.build((None, 1, 1, 1))
        layer(tf.fill((1, 1, 1, 1), 3.0), training=True)
        moved.append([layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    assert moved[1] == pytest.approx(np.array(moved[0]), abs=1e-6)


@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_normalization_in_bfloat16_keeps_its_statistics_in_float32(synchronized):
    layer = layers.BatchNormalization(synchronized=synchronized, dtype="mixed_bfloat16")
    layer.build((None, 2, 2, 1))
    layer.moving_mean.assign([1 + 2**-10])  # 1 in bfloat16
    assert layer(tf.ones((4, 2, 2, 1)), training=True).dtype == tf.bfloat16
    assert layer.moving_mean.numpy() == pytest.approx([1 + 0.9 * 2**-10], abs=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu6_and_its_gradient_are_tensorflows(dtype, training):
    x = tf.constant([-7, -1, 0, 0.5, 3, 5.9375, 6, 8], dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found, expected = layers.ReLU6(dtype=dtype)(x, training=training), tf.nn.relu6(x)
    assert found.dtype == x.dtype
    assert np.array_equal(found, expected)
    assert np.array_equal(tape.gradient(found, x), tape.gradient(expected, x))


def test_a_decoder_of_one_map_gives_a_mask():
    decoder = networks.decoder([(4, 4, 3)], 16, 2)
    assert decoder(tf.ones((1, 4, 4, 3))).shape == (1, 16, 16, 1)  # eagerly, ops are checked


def test_xla_takes_the_gradient_of_an_upsampled_convolution_in_bfloat16():
    # A pixel of each map alone: of many, sums in bfloat16 are another processor's others.
    pixel = np.zeros((1, 8, 8, 2), np.float32)
    pixel[0, 4, 4] = 1, -2
    maps = [tf.cast(x, tf.bfloat16) for x in (pixel, pixel[:, 2:6, 2:6])]
    layer = layers.UpsampledConvolution(dtype="mixed_bfloat16")
    layer.build([x.shape for x in maps])

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(maps) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    found = tf.function(gradient, jit_compile=True)()
    assert np.abs(found.numpy()).min() > 0
    assert found.numpy() == pytest.approx(gradient().numpy(), rel=0.1, abs=0.1)
