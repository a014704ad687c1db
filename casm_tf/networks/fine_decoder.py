"""The second stage's decoder: a classifier's maps -> a mask that follows edges."""

import keras
from keras import layers

from casm_tf.networks.layers import BatchNormalization

_FINEST = 16  # channels at the finest map, where a channel costs most
_NEXT, _MORE = 48, 16  # at the map after it, and more at each coarser one


def fine_decoder(map_shapes, image_size):
    """A decoder from the coarsest map to the finest, each enlarged, added and convolved.

    The top-down path of Lin et al. (feature pyramids, CVPR 2017), with the picture's mean at its
    top, as salient is what differs from the rest. Coarse maps keep more channels than fine ones:
    there they cost next to nothing.

    The names of its layers are no other network's, as a model's weights go by them.

    Args:
        map_shapes: the shapes (height, width, channels) of a classifier's maps, finest first.
        image_size: height and width of the mask in pixels.

    Returns:
        A `keras.Model`: the maps -> mask, float32 [B, H, W, 1] in [0, 1].
    """
    maps = [keras.Input(shape, name=f"map{level}") for level, shape in enumerate(map_shapes)]
    widths = [_FINEST, *(_NEXT + _MORE * level for level in range(len(maps) - 1))]
    x = None
    for level in reversed(range(len(maps))):
        side = layers.Conv2D(widths[level], 1, use_bias=False, name=f"fine_side{level}")
        side = _normalized(side, maps[level])
        if x is None:
            mean = layers.GlobalAveragePooling2D(keepdims=True, name="fine_mean")(maps[level])
            mean = layers.Conv2D(widths[level], 1, name="fine_mean_side")(mean)
            x = layers.Add(name="fine_with_mean")([side, mean])
        else:
            x = layers.Conv2D(widths[level], 1, use_bias=False, name=f"fine_down{level}")(x)
            factor = side.shape[1] // x.shape[1]
            if factor > 1:
                x = layers.UpSampling2D(factor, interpolation="bilinear", name=f"fine_up{level}")(x)
            x = layers.Add(name=f"fine_sum{level}")([x, side])
        x = layers.ReLU(name=f"fine_relu{level}")(x)
        x = _normalized(
            layers.Conv2D(
                widths[level], 3, padding="same", use_bias=False, name=f"fine_conv{level}"
            ),
            x,
        )
        x = layers.ReLU(name=f"fine_out{level}")(x)
    x = layers.Conv2D(1, 3, padding="same", dtype="float32", name="fine_final")(x)
    if x.shape[1] < image_size:
        factor = image_size // x.shape[1]
        x = layers.UpSampling2D(factor, interpolation="bilinear", dtype="float32", name="fine_up")(
            x
        )
    return keras.Model(maps, layers.Activation("sigmoid", dtype="float32")(x), name="fine_decoder")


def _normalized(convolution, x):
    return BatchNormalization(name=f"{convolution.name}_bn")(convolution(x))
