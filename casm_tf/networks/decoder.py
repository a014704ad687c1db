"""The mask decoder: a classifier's maps -> mask."""

import keras
from keras import layers

from casm_tf.networks.layers import (
    BatchNormalization,
    Enlargement,
    Smoothing,
    UpsampledConvolution,
)
from casm_tf.networks.resnet import convolution

_WITH_STEM = 5  # maps


def decoder(
    map_shapes, image_size, channels=64, interpolation="nearest", smoothing=0.0, places=None
):
    """The mask decoder of the paper's Figure 1.

    Args:
        map_shapes: the shapes (height, width, channels) of a classifier's maps, finest first.
        image_size: height and width of the mask in pixels.
        channels: what each map is reduced to. Of five maps the first, a ResNet's stem, is taken as
            it is.
        interpolation: "nearest" (the original) or "bilinear", from the finest map's resolution to
            the image's.
        smoothing: the deviation of a Gaussian over the mask's logits, in cells of the finest map;
            0 for none (the paper). A trained mask is then whole, and soft at its edge.
        places: where the maps lie (`networks.map_places`), for a mask that lies where what the
            classifier sees does; None takes each map for the image resized (the original).

    Returns:
        A `keras.Model`: the maps -> mask, float32 [B, H, W, 1] in [0, 1].

    Raises ValueError for a Gaussian that reaches across the finest map.
    """
    maps = [keras.Input(shape, name=f"map{level}") for level, shape in enumerate(map_shapes)]
    levels = maps[:1] if len(maps) == _WITH_STEM else []
    for stage, x in enumerate(maps[len(levels) :], 1):
        x = convolution(x, channels, 1, name=f"conv1x1_{stage}")
        levels.append(layers.ReLU()(BatchNormalization(name=f"bn_{stage}")(x)))
    x = UpsampledConvolution(places, name="final")(levels)
    if smoothing:
        if round(3 * smoothing) >= min(x.shape[1:3]):
            raise ValueError(f"smoothing by {smoothing} cells does not fit a map of {x.shape[1:3]}")
        x = Smoothing(smoothing, name="smoothing")(x)
    mask = layers.Activation("sigmoid", dtype="float32")(x)
    if places and mask.shape[1] < image_size:
        mask = Enlargement(places[0], interpolation, dtype="float32", name="enlargement")(mask)
    else:
        mask = _upsample(mask, image_size, interpolation)
    return keras.Model(maps, mask, name="decoder")


def _upsample(x, size, interpolation):
    if x.shape[1] == size:
        return x
    return layers.UpSampling2D(size // x.shape[1], interpolation=interpolation, dtype="float32")(x)
