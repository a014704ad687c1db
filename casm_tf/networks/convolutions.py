"""Keras's convolutions with gradients that are fast on a CPU, too: the same numbers, but rounding.

Where there is a GPU they are Keras's own, but for the stem's, and so is whatever these networks do
not have (`_is_plain`). Two have Keras's very names, as files of weights know a layer by what its
class is called. What each gains: docs/measurements.md.
"""

import keras
import tensorflow as tf
from keras import layers

# Of a bfloat16 map, up to which the gradient for a 3x3 kernel is faster as a product.
_FEW_PIXELS = 8 * 8


def has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


@keras.saving.register_keras_serializable("casm_tf")
class Conv2D(layers.Conv2D):
    """A convolution [B, H, W, C] -> [B, h, w, filters].

    In training a kernel with strides of 2, or of few pixels in bfloat16, has its gradient from a
    product of matrices; 1x1 kernels are a product themselves, and in float32 all of them are.
    TensorFlow's own ops take 1.3 to 2.5 times as long. At rest it is Keras's, as TensorFlow then
    makes one op of it and the normalization that follows.
    """

    def call(self, inputs, training=False):
        if not training or not _is_plain(self, inputs):
            return super().call(inputs)
        (_, height, width, _), stride, dtype = inputs.shape, self.strides[0], inputs.dtype
        kernel = tf.convert_to_tensor(self.kernel)
        is_slow = stride == 2 or (dtype == tf.bfloat16 and height * width <= _FEW_PIXELS)
        if self.kernel_size == (1, 1) and (is_slow or dtype == tf.float32):
            return _pointwise(inputs, kernel, stride)
        if is_slow:
            return _convolution(inputs, kernel, stride, self.padding.upper())
        return super().call(inputs)


@keras.saving.register_keras_serializable("casm_tf")
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """A convolution of each channel by itself, [B, H, W, C] -> [B, h, w, C].

    TensorFlow's gradient for a kernel is slow where that is 5 wide (1.5 to 8 times as long as for
    two that are 3 wide), and in bfloat16 the gradient for inputs is where there are strides (6
    times as long as in float32).
    """

    def call(self, inputs):
        if not _is_plain(self, inputs) or self.depth_multiplier > 1:
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        return _depthwise(inputs, kernel, self.strides[0], self.padding.upper())


def _is_plain(layer, inputs):
    """Whether a layer is what is written here, on maps whose size is known, without a GPU."""
    (height, width), (rows, columns) = layer.kernel_size, layer.strides
    return (
        height == width
        and rows == columns <= 2
        and layer.dilation_rate == (1, 1)
        and getattr(layer, "groups", 1) == 1
        and not layer.use_bias
        and layer.activation is keras.activations.linear
        and None not in inputs.shape[1:3]
        and not has_gpu()
    )


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
        batch, *size, _ = input_shape
        return (batch, *(None if side is None else side // 2 for side in size), self.filters)


def _pointwise(x, kernel, stride):
    channels, filters = kernel.shape[2:]
    if stride == 2:
        (x,) = _taps(x, 1, 2, "VALID")
    height, width = x.shape[1:3]
    rows = tf.reshape(x, (-1, channels)) @ tf.reshape(kernel, (channels, filters))
    return tf.reshape(rows, (-1, height, width, filters))


def _convolution(x, kernel, stride, padding):
    settings = {"strides": (1, stride, stride, 1), "padding": padding}
    size, _, channels, filters = kernel.shape

    @tf.custom_gradient
    def convolution(x, kernel):
        def gradients(outputs):
            images = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=outputs, **settings
            )
            read = tf.concat(_taps(x, size, stride, padding), axis=3)
            read = tf.reshape(read, (-1, size * size * channels))
            product = tf.matmul(read, tf.reshape(outputs, (-1, filters)), transpose_a=True)
            return images, tf.reshape(product, kernel.shape)

        return tf.raw_ops.Conv2D(input=x, filter=kernel, **settings), gradients

    return convolution(x, kernel)


def _taps(x, size, stride, padding):
    """What each cell of a kernel reads, row by row: [B, H, W, C] -> size^2 of [B, h, w, C].

    With strides of 2 a pair of rows and a pair of columns are made an axis each: TensorFlow's
    slices are slow where they leave pixels out.
    """
    channels = x.shape[3]
    (height, *rows), (width, *columns) = (
        _padding(side, size, stride, padding) for side in x.shape[1:3]
    )
    x = tf.pad(x, ((0, 0), rows, columns, (0, 0)))
    x = tf.reshape(x, (-1, x.shape[1] // stride, stride, x.shape[2] // stride, stride * channels))
    taps = []
    for i in range(size):
        for j in range(size):
            begin = (0, i // stride, i % stride, j // stride, j % stride * channels)
            tap = tf.slice(x, begin, (-1, height, 1, width, channels))
            taps.append(tf.reshape(tap, (-1, height, width, channels)))
    return taps


def _padding(side, size, stride, padding):
    """How long the output is, and what is padded before and after, to a multiple of the stride."""
    if padding == "SAME":
        length = -(-side // stride)
        before = max((length - 1) * stride + size - side, 0) // 2
    else:
        length, before = (side - size) // stride + 1, 0
    return length, before, stride * (length - (1 - size) // stride) - side - before


def _depthwise(x, kernel, stride, padding):
    settings = {"strides": (1, stride, stride, 1), "padding": padding}

    @tf.custom_gradient
    def depthwise(x, kernel):
        def gradients(outputs):
            dtype = tf.float32 if stride > 1 else x.dtype
            images = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=tf.cast(kernel, dtype),
                out_backprop=tf.cast(outputs, dtype),
                **settings,
            )
            if kernel.shape[0] == 5:
                product = _five_wide(x, outputs, stride, padding)
            else:
                product = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=x, filter_sizes=kernel.shape, out_backprop=outputs, **settings
                )
            return tf.cast(images, x.dtype), product

        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, **settings), gradients

    return depthwise(x, kernel)


def _five_wide(x, outputs, stride, padding):
    """The gradient for a depthwise 5x5 kernel: of its columns 0 to 2, and of 2 to 4."""
    (_, *rows), (width, *columns) = (_padding(side, 5, stride, padding) for side in x.shape[1:3])
    x = tf.pad(x, ((0, 0), rows, columns, (0, 0)))
    left, right = (
        tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=x[:, :, begin : begin + (width - 1) * stride + 3],
            filter_sizes=(5, 3, x.shape[3], 1),
            out_backprop=outputs,
            strides=(1, stride, stride, 1),
            padding="VALID",
        )
        for begin in (0, 2)
    )
    return tf.concat((left, right[:, 1:]), axis=1)


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
