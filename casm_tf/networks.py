"""The networks: classifiers, images -> logits and five maps; the decoder, five maps -> mask."""

import dataclasses
import pathlib
import warnings

import keras
import numpy as np
from keras import layers, ops

from casm_tf.layers import (
    BatchNormalization,
    StemConvolution,
    UpsampledConvolution,
    he_fan_out,
)


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
            64, 7, strides=2, use_bias=False, kernel_initializer=he_fan_out(), name="conv1"
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
        kernel_initializer=he_fan_out(),
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
