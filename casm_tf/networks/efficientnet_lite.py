"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6; a light encoder."""

import math

import keras
from keras import layers

from casm_tf.networks.convolutions import Conv2D, DepthwiseConv2D
from casm_tf.networks.layers import BatchNormalization, ReLU6

# Width and depth as multiples of lite0's.
SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
    "efficientnet_lite3": (1.2, 1.4),
    "efficientnet_lite4": (1.4, 1.8),
}
# What the published weights were trained with: pictures as (x - 127) / 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
_STEM, _HEAD = 32, 1280  # neither is scaled
# Of each stage: blocks, kernel, strides, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_MAPS = (1, 2, 4, 6)  # the stages whose ends are maps: the last at strides 4, 8, 16 and 32
_NORMALIZATION = {"momentum": 0.99, "epsilon": 1e-3}


def classifier(architecture, image_size, num_classes):
    """A classifier with four maps, at strides 4, 8, 16 and 32.

    Args:
        architecture: a key of `SCALES`.
        image_size: height and width of the images in pixels, a multiple of 32.
        num_classes: how many logits.

    Returns:
        A `keras.Model`: images [B, H, W, 3], normalised with `MEAN` and `STD` -> {"logits":
        float32 [B, num_classes], "maps": four maps, finest first}.
    """
    width, depth = SCALES[architecture]
    images = keras.Input((image_size, image_size, 3), name="images")
    x = layers.Conv2D(_STEM, 3, strides=2, padding="same", use_bias=False, name="stem")(images)
    x = _normalized(x, "stem")
    maps, number = [], 0
    for stage, (blocks, size, strides, expansion, channels) in enumerate(_STAGES):
        if stage not in (0, len(_STAGES) - 1):  # those two are as deep in every network
            blocks = math.ceil(depth * blocks)
        for block in range(blocks):
            x = _block(
                x,
                _scaled(width, channels),
                size,
                strides if block == 0 else 1,
                expansion,
                f"block{number}",
            )
            number += 1
        if stage in _MAPS:
            maps.append(x)
    x = _pointwise(x, _HEAD, "head")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(images, {"logits": logits, "maps": maps}, name=architecture)


def _scaled(width, channels):
    """Channels times the width, to a multiple of 8 that is not less than nine tenths of it."""
    wanted = width * channels
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _block(x, channels, size, strides, expansion, name):
    """A bottleneck turned inside out: 1x1 to more channels, depthwise, 1x1 to fewer, shortcut."""
    shortcut = x
    if expansion > 1:
        x = _pointwise(x, expansion * x.shape[-1], f"{name}_expand")
    x = DepthwiseConv2D(size, strides, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalized(x, f"{name}_depthwise")
    x = Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = BatchNormalization(name=f"{name}_project_bn", **_NORMALIZATION)(x)
    if x.shape == shortcut.shape and strides == 1:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _pointwise(x, channels, name):
    return _normalized(Conv2D(channels, 1, use_bias=False, name=name)(x), name)


def _normalized(x, name):
    x = BatchNormalization(name=f"{name}_bn", **_NORMALIZATION)(x)
    return ReLU6(name=f"{name}_relu")(x)
