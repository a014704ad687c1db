"""The networks' own layers: normalization, ReLU6, the decoder's last convolution, smoothing."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from casm_tf.networks import convolutions
from casm_tf.networks.places import resampled


def he_fan_out():
    """normal(0, sqrt(2 / (size^2 filters))), as the original code starts from."""
    return keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal")


def head(model):
    """The layer that gives a classifier's logits: the last one with weights."""
    return [layer for layer in model.layers if layer.weights][-1]


@keras.saving.register_keras_serializable("casm_tf")
class BatchNormalization(layers.Layer):
    """Batch normalization of [B, H, W, C] in TensorFlow's fused op; by default as torchvision's.

    Keras's own layer is made of separate ops: on a CPU that costs a fifth of a ResNet-50's step.
    In training the moving variance is of the unbiased kind, as in PyTorch. With `synchronized` mean
    and variance are those of all replicas' batches, in separate ops. Where the layer is not
    `trainable`, it is at rest in training, too, as Keras's.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, synchronized=False, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
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
        if training and not self.trainable:
            scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
            offset = self.beta - self.moving_mean * scale
            return inputs * tf.cast(scale, inputs.dtype) + tf.cast(offset, inputs.dtype)
        if training and self.synchronized:
            return self._over_all_replicas(inputs)
        # In bfloat16 channels that are no multiple of 16 take a CPU five times as long.
        is_slow = (
            inputs.shape[-1] % 16 and inputs.dtype == tf.bfloat16 and not convolutions.has_gpu()
        )
        # Scale, offset and statistics are float32 whatever the inputs' type is.
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, tf.float32) if is_slow else inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=ops.cast(self.moving_mean, "float32"),
            variance=ops.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.momentum,
            is_training=training,
        )
        if training:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return tf.cast(outputs, inputs.dtype)

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
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        for moving, value in (
            (self.moving_mean, shift + mean),
            (self.moving_variance, variance * count / tf.maximum(count - 1, 1)),
        ):
            moving.assign(self.momentum * moving + (1 - self.momentum) * value)
        return tf.cast((shifted - mean) * scale + self.beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {name: getattr(self, name) for name in ("momentum", "epsilon", "synchronized")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("casm_tf")
class ReLU6(layers.Layer):
    """min(max(x, 0), 6)."""

    def call(self, inputs, training=False):
        if training and inputs.dtype == tf.bfloat16 and not convolutions.has_gpu():
            return _clipped(inputs)
        return tf.nn.relu6(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@tf.custom_gradient
def _clipped(x):
    # In bfloat16 TensorFlow makes one op of a normalization and ReLU, not of ReLU6.
    outputs = tf.minimum(tf.nn.relu(x), tf.constant(6, x.dtype))
    return outputs, lambda y: tf.raw_ops.Relu6Grad(gradients=y, features=outputs)


@keras.saving.register_keras_serializable("casm_tf")
class UpsampledConvolution(layers.Layer):
    """Bilinear upsampling of all maps to the first's size, concatenation, 3x3 convolution to one.

    All three are linear, so they are taken in another order: a 3x3 convolution is nine 1x1
    convolutions whose outputs are shifted and added, and a 1x1 convolution commutes with the
    upsampling. Nine channels a map are upsampled instead of `channels`, and nothing is
    concatenated. Kernel and bias are those of the plain convolution.

    With the maps' `places` (places.py) each is read where it lies; without, as TensorFlow resizes
    images: as if all cells were patches of the same image.
    """

    def __init__(self, places=None, **kwargs):
        super().__init__(**kwargs)
        self.places = places

    def build(self, input_shapes):
        self.kernel = self.add_weight(
            shape=(3, 3, sum(shape[-1] for shape in input_shapes), 1),
            initializer=he_fan_out(),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias")

    def call(self, maps):
        height, width = size = maps[0].shape[1:3]
        is_open = None in size  # of a network for images of any size
        if is_open:
            height, width = tf.unstack(tf.shape(maps[0])[1:3])
        kernels = [self.kernel]
        if len(maps) > 1:
            kernels = ops.split(self.kernel, np.cumsum([x.shape[-1] for x in maps])[:-1], axis=2)
        taps = 0
        for level, (x, kernel) in enumerate(zip(maps, kernels, strict=True)):
            kernel = ops.reshape(ops.transpose(kernel, (3, 2, 0, 1)), (1, 1, x.shape[-1], 9))
            x = ops.conv(x, ops.cast(kernel, x.dtype), padding="valid")
            if level and (is_open or x.shape[1:3] != size):
                if self.places:
                    places = self.places[level], self.places[0]
                    x = resampled(x, (height, width), *places)
                else:
                    # XLA gives the gradient in float32, whatever the maps are (TensorFlow 2.21).
                    x = tf.image.resize(tf.cast(x, tf.float32), (height, width))
            taps += ops.cast(x, self.compute_dtype)
        # Tap 3i + j of the kernel is read at (i - 1, j - 1) from where its product is added.
        # On a CPU the gradient of nine slices takes twenty times as long as that of this.
        shifts = tf.reshape(tf.eye(9, dtype=taps.dtype), (3, 3, 9, 1))
        return ops.conv(taps, shifts, padding="same") + self.bias

    def compute_output_shape(self, input_shapes):
        return (*input_shapes[0][:-1], 1)

    def get_config(self):
        own = {"places": self.places} if self.places else {}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("casm_tf")
class Enlargement(layers.Layer):
    """Maps [B, H, W, C] -> [B, stride H, stride W, C], from their place to the image's pixels."""

    def __init__(self, place, interpolation, **kwargs):
        super().__init__(**kwargs)
        self.place = place
        self.interpolation = interpolation

    def call(self, maps):
        size = [self.place[0] * side for side in tf.unstack(tf.shape(maps)[1:3])]
        return resampled(maps, size, self.place, (1, 0), self.interpolation)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        return (batch, *(side and self.place[0] * side for side in size), channels)

    def get_config(self):
        own = {"place": self.place, "interpolation": self.interpolation}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("casm_tf")
class OpenUpSampling2D(layers.UpSampling2D):
    """Keras's layer, for maps whose size is not known in the graph: its own wants numbers."""

    def call(self, inputs):
        size = tf.shape(inputs)[1:3] * self.size
        return tf.cast(tf.image.resize(inputs, size, self.interpolation), inputs.dtype)


@keras.saving.register_keras_serializable("casm_tf")
class Smoothing(layers.Layer):
    """A Gaussian of so many cells over maps [B, H, W, 1], continued by reflection."""

    def __init__(self, deviation, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.deviation = deviation

    def call(self, maps):
        radius = round(3 * self.deviation)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.deviation) ** 2)
        kernel = tf.constant(weights / weights.sum(), tf.float32)
        edge = (radius, radius)
        maps = tf.pad(maps, ((0, 0), edge, edge, (0, 0)), "REFLECT")
        for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
            maps = tf.nn.conv2d(maps, tf.reshape(kernel, shape), 1, "VALID")
        return maps

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {**super().get_config(), "deviation": self.deviation}
        del config["dtype"]
        return config
