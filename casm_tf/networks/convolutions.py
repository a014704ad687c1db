"""Keras's convolutions with gradients that are fast on a CPU, too: the same numbers, but rounding.

Where there is a GPU they are Keras's own, but for the stem's. Two have Keras's very names, as files
of weights know a layer by what its class is called. What each gains: docs/measurements.md.
"""

import keras
import tensorflow as tf
from keras import layers

_FEW_PIXELS = 8 * 8


def has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


@keras.saving.register_keras_serializable("casm_tf")
class Conv2D(layers.Conv2D):
    """A convolution [B, H, W, C] -> [B, h, w, filters] without a bias.

    In training 1x1 is a product of matrices, and so is the gradient for a kernel with strides or of
    few pixels in bfloat16: TensorFlow's own ops take 1.3 to 2.5 times as long. At rest it is
    Keras's, as TensorFlow then makes one op of it and the normalization that follows.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "use_bias": False})

    def call(self, inputs, training=False):
        (_, height, width, _), stride = inputs.shape, self.strides[0]
        if not training or has_gpu() or stride > 2 or None in (height, width):
            return super().call(inputs)
        padding = self.padding.upper()
        kernel = tf.convert_to_tensor(self.kernel)
        is_slow = stride == 2 or (inputs.dtype == tf.bfloat16 and height * width <= _FEW_PIXELS)
        if self.kernel_size == (1, 1) and (is_slow or inputs.dtype == tf.float32):
            return _pointwise(inputs, kernel, stride)
        if is_slow:
            return _convolution(inputs, kernel, stride, padding)
        return super().call(inputs)


@keras.saving.register_keras_serializable("casm_tf")
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """A convolution of each channel by itself, [B, H, W, C] -> [B, h, w, C], without a bias.

    TensorFlow's gradient for a kernel is slow where that is 5 wide (1.5 to 8 times as long as for
    two that are 3 wide), and in bfloat16 the gradient for inputs is where there are strides (10
    times as long as in float32).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "use_bias": False})

    def call(self, inputs):
        if has_gpu():
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        return _depthwise(inputs, kernel, self.strides[0], self.padding.upper())


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
    (height, above, below), (width, left, right) = (
        _padding(side, size, stride, padding) for side in x.shape[1:3]
    )
    x = tf.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
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
    size, _, channels, _ = kernel.shape

    @tf.custom_gradient
    def depthwise(x, kernel):
        def kernel_gradient(outputs):
            if size != 5:
                return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=x, filter_sizes=kernel.shape, out_backprop=outputs, **settings
                )
            # Columns 0 to 2 and 2 to 4 of the kernel.
            (_, above, below), (width, left, right) = (
                _padding(side, size, stride, padding) for side in x.shape[1:3]
            )
            padded = tf.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
            parts = [
                tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=padded[:, :, begin : begin + (width - 1) * stride + 3],
                    filter_sizes=(5, 3, channels, 1),
                    out_backprop=outputs,
                    strides=settings["strides"],
                    padding="VALID",
                )
                for begin in (0, 2)
            ]
            return tf.concat((parts[0], parts[1][:, 1:]), axis=1)

        def gradients(outputs):
            dtype = tf.float32 if stride > 1 else x.dtype
            images = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=tf.cast(kernel, dtype),
                out_backprop=tf.cast(outputs, dtype),
                **settings,
            )
            return tf.cast(images, x.dtype), kernel_gradient(outputs)

        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, **settings), gradients

    return depthwise(x, kernel)


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
