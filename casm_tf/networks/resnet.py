"""ResNets, laid out as torchvision's."""

import dataclasses

import keras
from keras import layers

from casm_tf.networks.convolutions import Conv2D, StemConvolution
from casm_tf.networks.layers import BatchNormalization, he_fan_out


@dataclasses.dataclass(frozen=True)
class ResNet:
    """What tells one ResNet from another; its stages run at 1, 1/2, 1/4, 1/8 of the stem."""

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False  # 1x1, 3x3, 1x1 to four times the width, instead of two 3x3
    deep_stem: bool = True  # 7x7 at 1/2 and a max-pool to 1/4, instead of one 3x3 at 1/2


RESNETS = {
    "small_resnet": ResNet((1, 1, 1, 1), widths=(16, 32, 64, 128), deep_stem=False),
    "medium_resnet": ResNet((1, 1, 1, 1), widths=(32, 64, 128, 256), deep_stem=False),
    "resnet18": ResNet((2, 2, 2, 2)),
    "resnet34": ResNet((3, 4, 6, 3)),
    "resnet50": ResNet((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNet((3, 4, 23, 3), bottleneck=True),
}


def classifier(architecture, image_size, num_classes):
    """A classifier with five maps, the stem's and the four stages', as torchvision's ResNets.

    Arguments and what is returned: `networks.classifier`.
    """
    resnet = RESNETS[architecture]

    # === The stem ===
    images = keras.Input((image_size, image_size, 3), name="images")
    if resnet.deep_stem:
        x = StemConvolution(
            64, 7, strides=2, use_bias=False, kernel_initializer=he_fan_out(), name="conv1"
        )(images)
        x = layers.ReLU(name="relu1")(BatchNormalization(name="bn1")(x))
        # After a ReLU zeros are as good as the minus infinity that pads a max-pool.
        x = layers.ZeroPadding2D(1, name="pad1")(x)
        x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    else:
        x = convolution(images, resnet.widths[0], 3, strides=2, name="conv1")
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


def convolution(x, filters, size, strides=1, name=None):
    """A convolution that pads by size // 2 on every side, as PyTorch does.

    With strides, 'same' of TensorFlow pads the bottom and the right alone.
    """
    if size > 1 and strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return Conv2D(
        filters,
        size,
        strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        kernel_initializer=he_fan_out(),
        name=name,
    )(x)


def _residual_block(x, width, strides, bottleneck, name):
    shortcut = x
    channels = 4 * width if bottleneck else width
    if strides > 1 or x.shape[-1] != channels:
        shortcut = convolution(x, channels, 1, strides, name=f"{name}_downsample_0")
        shortcut = BatchNormalization(name=f"{name}_downsample_1")(shortcut)
    # (filters, size, strides): torchvision strides in the 3x3, not in the first 1x1.
    plan = (
        [(width, 1, 1), (width, 3, strides), (channels, 1, 1)]
        if bottleneck
        else [(width, 3, strides), (width, 3, 1)]
    )
    for number, (filters, size, stride) in enumerate(plan, 1):
        x = convolution(x, filters, size, stride, name=f"{name}_conv{number}")
        x = BatchNormalization(name=f"{name}_bn{number}")(x)
        if number < len(plan):
            x = layers.ReLU(name=f"{name}_relu{number}")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))
