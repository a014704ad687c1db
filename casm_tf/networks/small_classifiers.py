"""Small classifiers that differ from each other, to look at masks with: images -> logits.

Each is a `keras.Model`, float32 images [B, H, W, 3] -> logits float32 [B, num_classes], with a
global average pool and a dense layer at its end. They differ in what their layers are made of, so
that what all of them can use of an image is more than one network's habit.
"""

import keras
from keras import layers

from casm_tf import networks
from casm_tf.networks.layers import BatchNormalization


def plain(image_size, num_classes):
    """Convolutions of 3x3 one after the other, two at each size, without shortcuts."""
    images = keras.Input((image_size, image_size, 3), name="images")
    x = _convolution(images, 16, 3, strides=2)
    for width in (32, 64, 128):
        x = _convolution(x, width, 3, strides=2)
        x = _convolution(x, width, 3)
    return _classifier(images, x, num_classes, "plain")


def residual(image_size, num_classes):
    """The `small_resnet` of resnet.py."""
    resnet = networks.classifier("small_resnet", image_size, num_classes)
    return keras.Model(resnet.input, resnet.output["logits"], name="residual")


def depthwise(image_size, num_classes):
    """Separable convolutions: 3x3 in each channel by itself, then 1x1 (as MobileNet's)."""
    images = keras.Input((image_size, image_size, 3), name="images")
    x = _convolution(images, 24, 3, strides=2)
    for width, strides in ((48, 2), (96, 2), (96, 1), (192, 2), (192, 1)):
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(BatchNormalization()(x))
        x = _convolution(x, width, 1)
    return _classifier(images, x, num_classes, "depthwise")


def wide(image_size, num_classes):
    """Few layers: one convolution of 5x5 at each size, with more channels than `plain`."""
    x = images = keras.Input((image_size, image_size, 3), name="images")
    for width in (24, 48, 96, 192):
        x = _convolution(x, width, 5, strides=2)
    return _classifier(images, x, num_classes, "wide")


def _convolution(x, filters, size, strides=1):
    x = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.ReLU()(BatchNormalization()(x))


def _classifier(images, x, num_classes, name):
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(num_classes, name="fc")(x), name=name)
