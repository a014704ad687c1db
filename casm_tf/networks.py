"""The networks: classifiers, images -> logits and five maps; the decoder, five maps -> mask."""

import dataclasses
import pathlib
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops


@dataclasses.dataclass(frozen=True)
class ResNet:
    """What tells one ResNet from another; its stages run at 1, 1/2, 1/4, 1/8 of the stem."""

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False  # 1x1, 3x3, 1x1 to four times the width, instead of two 3x3
    deep_stem: bool = True  # 7x7 at 1/2 and a max-pool to 1/4, instead of one 3x3 at 1/2


RESNETS = {
    "small_resnet": ResNet((1, 1, 1, 1), widths=(16, 32, 64, 128), deep_stem=False),
    "resnet18": ResNet((2, 2, 2, 2)),
    "resnet34": ResNet((3, 4, 6, 3)),
    "resnet50": ResNet((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNet((3, 4, 23, 3), bottleneck=True),
}
ARCHITECTURES = (*RESNETS, "keras_resnet50")


def classifier(architecture, image_size, num_classes):
    """A classifier with the maps that a mask decoder reads, laid out as torchvision's ResNets.

    `keras_resnet50` is laid out as Keras's own ResNet50, for the weights that come with Keras.

    Args:
        architecture: one of `ARCHITECTURES`.
        image_size: height and width of the images in pixels: even for `small_resnet`, a multiple
            of 4 for the others; of 16 and 32, every map is half the one before it.
        num_classes: how many logits.

    Returns:
        A `keras.Model`: float32 images [B, H, W, 3] -> {"logits": float32 [B, num_classes],
        "maps": five maps, finest first: the stem's and those of the four stages}.

    Raises ValueError for another size.
    """
    stem = 2 if architecture == "small_resnet" else 4
    if image_size % stem:
        raise ValueError(f"{architecture} takes multiples of {stem} pixels; found {image_size}")
    if architecture == "keras_resnet50":
        return _keras_resnet50(image_size, num_classes)
    resnet = RESNETS[architecture]

    # === The stem ===
    images = keras.Input((image_size, image_size, 3), name="images")
    if resnet.deep_stem:
        x = StemConvolution(
            64, 7, strides=2, use_bias=False, kernel_initializer=_he_fan_out(), name="conv1"
        )(images)
        x = layers.ReLU(name="relu1")(BatchNormalization(name="bn1")(x))
        # After a ReLU zeros are as good as the minus infinity that pads a max-pool.
        x = layers.ZeroPadding2D(1, name="pad1")(x)
        x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    else:
        x = _convolution(images, resnet.widths[0], 3, strides=2, name="conv1")
        x = layers.ReLU(name="relu1")(BatchNormalization(name="bn1")(x))
    maps = [x]

    # === The four stages ===
    for stage, (blocks, width) in enumerate(zip(resnet.blocks, resnet.widths, strict=True), 1):
        for block in range(blocks):
            strides = 2 if stage > 1 and block == 0 else 1
            x = _residual_block(x, width, strides, resnet.bottleneck, f"layer{stage}_{block}")
        maps.append(x)

    # === The head ===
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, {"logits": logits, "maps": maps}, name=architecture)


def decoder(map_shapes, image_size, channels=64, interpolation="nearest"):
    """The mask decoder of the paper's Figure 1.

    Args:
        map_shapes: the shapes (height, width, channels) of a classifier's five maps, finest first.
        image_size: height and width of the mask in pixels.
        channels: what each stage's map is reduced to.
        interpolation: "nearest" (the original) or "bilinear", from the stem's resolution to the
            image's.

    Returns:
        A `keras.Model`: the five maps -> mask, float32 [B, H, W, 1] in [0, 1].
    """
    maps = [keras.Input(shape, name=f"map{level}") for level, shape in enumerate(map_shapes)]
    levels = [maps[0]]
    for stage, x in enumerate(maps[1:], 1):
        x = _convolution(x, channels, 1, name=f"conv1x1_{stage}")
        levels.append(layers.ReLU()(BatchNormalization(name=f"bn_{stage}")(x)))
    x = UpsampledConvolution(name="final")(levels)
    mask = layers.Activation("sigmoid", dtype="float32")(x)
    mask = _upsample(mask, image_size, interpolation)
    return keras.Model(maps, mask, name="decoder")


def load_weights(model, path):
    """Load a .weights.h5 file that fits the model in every layer.

    Raises OSError for a file that cannot be read and ValueError for one that does not fit.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        # Keras only warns of layers that it passed over.
        with warnings.catch_warnings(action="error", category=UserWarning):
            model.load_weights(path)
    except OSError as error:
        raise OSError(f"{path} is not a whole HDF5 file: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError, UserWarning) as error:
        # Keras's own message prints the weights.
        raise ValueError(f"{path} does not hold the weights of a {model.name}") from error


def encoder_copy(model):
    """A classifier's images -> five maps as a network of its own, with the same weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return keras.Model(copy.input, copy.output["maps"], name="encoder")


def synchronize_batch_normalization(model):
    """Take the means and variances of training over all replicas, in place; Keras's layers too."""
    for layer in model.layers:
        if isinstance(layer, (BatchNormalization, layers.BatchNormalization)):
            layer.synchronized = True


def map_shapes(model):
    """The shapes (height, width, channels) of a classifier's five maps, finest first."""
    return [tuple(x.shape[1:]) for x in model.output["maps"]]


@keras.saving.register_keras_serializable("casm_tf")
class BatchNormalization(layers.Layer):
    """Batch normalization of [B, H, W, C] in TensorFlow's fused op, with torchvision's constants.

    Keras's own layer is made of separate ops: on a CPU that costs a fifth of a ResNet-50's step.
    In training the moving variance is of the unbiased kind, as in PyTorch. With `synchronized` mean
    and variance are those of all replicas' batches, in separate ops.
    """

    MOMENTUM = 0.9
    EPSILON = 1e-5

    def __init__(self, synchronized=False, **kwargs):
        super().__init__(**kwargs)
        self.synchronized = synchronized

    def build(self, input_shape):
        # Without autocast: else a layer that computes in bfloat16 reads its statistics rounded.
        def add(name, initializer, trainable=True):
            return self.add_weight(
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=trainable,
                autocast=False,
                name=name,
            )

        self.gamma = add("gamma", "ones")
        self.beta = add("beta", "zeros")
        self.moving_mean = add("moving_mean", "zeros", trainable=False)
        self.moving_variance = add("moving_variance", "ones", trainable=False)

    def call(self, inputs, training=False):
        if training and self.synchronized:
            return self._over_all_replicas(inputs)
        # Scale, offset and statistics are float32 whatever the inputs' type is.
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=ops.cast(self.moving_mean, "float32"),
            variance=ops.cast(self.moving_variance, "float32"),
            epsilon=self.EPSILON,
            exponential_avg_factor=1 - self.MOMENTUM,
            is_training=training,
        )
        if training:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs

    def _over_all_replicas(self, inputs):
        x = tf.cast(inputs, tf.float32)
        count = tf.cast(tf.size(x[..., 0]), tf.float32)
        # Sums of what is left after the moving mean, which is the same on all replicas: a variance
        # that is small beside the mean would drown in the squares' rounding.
        shift = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean))
        shifted = x - shift
        sums = [tf.reduce_sum(y, axis=(0, 1, 2)) for y in (shifted, tf.square(shifted))]
        context = tf.distribute.get_replica_context()
        count, total, squares = context.all_reduce("sum", [count, *sums])
        mean = total / count
        variance = squares / count - tf.square(mean)
        scale = self.gamma * tf.math.rsqrt(variance + self.EPSILON)
        for moving, value in (
            (self.moving_mean, shift + mean),
            (self.moving_variance, variance * count / tf.maximum(count - 1, 1)),
        ):
            moving.assign(self.MOMENTUM * moving + (1 - self.MOMENTUM) * value)
        return tf.cast((shifted - mean) * scale + self.beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "synchronized": self.synchronized}


@keras.saving.register_keras_serializable("casm_tf")
class StemConvolution(layers.Conv2D):
    """7x7 with strides 2 and 3 pixels of padding, [B, H, W, C] -> [B, H / 2, W / 2, filters].

    The objective of the mask needs this layer's gradient for the images at every step. TensorFlow's
    op for it is slow with strides and few channels; here it is a convolution without strides, to
    four times the channels at half the size (three times as fast on a CPU). H and W are even.
    """

    def convolution_op(self, inputs, kernel):
        return _stem_convolution(inputs, tf.convert_to_tensor(kernel))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, height // 2, width // 2, self.filters)


@tf.custom_gradient
def _stem_convolution(images, kernel):
    # Padding of the op's own ("EXPLICIT") is slow in bfloat16 on a CPU.
    padded = tf.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    settings = {"strides": (1, 2, 2, 1), "padding": "VALID"}

    def gradients(outputs):
        kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
            input=padded, filter_sizes=kernel.shape, out_backprop=outputs, **settings
        )
        # The kernel at 8x8 as 4x4 of 2x2: each output pixel i, two image pixels wide, has read the
        # pairs i - 2 to i + 1.
        channels, filters = kernel.shape[2:]
        pairs = tf.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
        pairs = tf.reshape(pairs, (4, 2, 4, 2, channels, filters))
        pairs = tf.reshape(tf.transpose(pairs, (0, 2, 5, 1, 3, 4)), (4, 4, filters, 4 * channels))
        pairs = tf.nn.conv2d(outputs, pairs[::-1, ::-1], 1, ((0, 0), (1, 2), (1, 2), (0, 0)))
        return tf.nn.depth_to_space(pairs, 2), kernel_gradient

    return tf.raw_ops.Conv2D(input=padded, filter=kernel, **settings), gradients


@keras.saving.register_keras_serializable("casm_tf")
class UpsampledConvolution(layers.Layer):
    """Bilinear upsampling of all maps to the first's size, concatenation, 3x3 convolution to one.

    All three are linear, so they are taken in another order: a 3x3 convolution is nine 1x1
    convolutions whose outputs are shifted and added, and a 1x1 convolution commutes with the
    upsampling. Nine channels a map are upsampled instead of `channels`, and nothing is
    concatenated. Kernel and bias are those of the plain convolution.
    """

    def build(self, input_shapes):
        self.kernel = self.add_weight(
            shape=(3, 3, sum(shape[-1] for shape in input_shapes), 1),
            initializer=_he_fan_out(),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias")

    def call(self, maps):
        height, width = maps[0].shape[1:3]
        kernels = ops.split(self.kernel, np.cumsum([x.shape[-1] for x in maps])[:-1], axis=2)
        taps = 0
        for x, kernel in zip(maps, kernels, strict=True):
            kernel = ops.reshape(ops.transpose(kernel, (3, 2, 0, 1)), (1, 1, x.shape[-1], 9))
            x = ops.conv(x, ops.cast(kernel, x.dtype), padding="valid")
            if x.shape[1:3] != (height, width):
                x = tf.image.resize(x, (height, width))
            taps += ops.cast(x, self.compute_dtype)
        # Tap 3i + j of the kernel is read at (i - 1, j - 1) from where its product is added.
        taps = ops.pad(taps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [
            taps[:, i : i + height, j : j + width, 3 * i + j, None]
            for i in range(3)
            for j in range(3)
        ]
        return tf.add_n(shifted) + self.bias

    def compute_output_shape(self, input_shapes):
        return (*input_shapes[0][:-1], 1)


def _keras_resnet50(image_size, num_classes):
    """Keras's ResNet50 behind the step from images normalised as ImageNet's to what it expects.

    That is blue, green and red in [0, 255], minus their means.
    """
    mean, std = np.array([0.406, 0.456, 0.485]), np.array([0.225, 0.224, 0.229])
    offset = 255 * mean - np.array([103.939, 116.779, 123.68])
    images = keras.Input((image_size, image_size, 3), name="images")
    x = ops.flip(images, axis=-1)
    x = layers.Rescaling((255 * std).tolist(), offset.tolist(), dtype="float32", name="caffe")(x)
    resnet = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    ends = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    maps = [resnet.get_layer(name).output for name in ("pool1_pool", *ends)]
    x = layers.GlobalAveragePooling2D(name="avg_pool")(maps[-1])
    logits = layers.Dense(num_classes, dtype="float32", name="predictions")(x)
    return keras.Model(images, {"logits": logits, "maps": maps}, name="keras_resnet50")


def _he_fan_out():
    """normal(0, sqrt(2 / (size^2 filters))), as the original code starts from."""
    return keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal")


def _convolution(x, filters, size, strides=1, use_bias=False, name=None):
    """A convolution that pads by size // 2 on every side, as PyTorch does.

    With strides, 'same' of TensorFlow pads the bottom and the right alone.
    """
    if size > 1 and strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="valid" if strides > 1 else "same",
        use_bias=use_bias,
        kernel_initializer=_he_fan_out(),
        name=name,
    )(x)


def _residual_block(x, width, strides, bottleneck, name):
    shortcut = x
    channels = 4 * width if bottleneck else width
    if strides > 1 or x.shape[-1] != channels:
        shortcut = _convolution(x, channels, 1, strides, name=f"{name}_downsample_0")
        shortcut = BatchNormalization(name=f"{name}_downsample_1")(shortcut)
    # (filters, size, strides): torchvision strides in the 3x3, not in the first 1x1.
    plan = (
        [(width, 1, 1), (width, 3, strides), (channels, 1, 1)]
        if bottleneck
        else [(width, 3, strides), (width, 3, 1)]
    )
    for number, (filters, size, stride) in enumerate(plan, 1):
        x = _convolution(x, filters, size, stride, name=f"{name}_conv{number}")
        x = BatchNormalization(name=f"{name}_bn{number}")(x)
        if number < len(plan):
            x = layers.ReLU(name=f"{name}_relu{number}")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _upsample(x, size, interpolation):
    if x.shape[1] == size:
        return x
    return layers.UpSampling2D(size // x.shape[1], interpolation=interpolation, dtype="float32")(x)
