"""Where the cells of maps lie in the image, and maps read between their cells.

A place is (stride, first): cell i of a map lies at pixel stride * i + first, down and across, which
is the middle of what it sees. A picture's first pixel is 0.
"""

import tensorflow as tf


def resampled(maps, size, place, wanted, interpolation="bilinear"):
    """Maps [B, h, w, C] that lie at `place`, read at the cells of another place.

    Beyond the outermost cells their values go on.

    Args:
        maps: of any float type.
        size: (H, W), numbers or scalar tensors: how many cells are wanted.
        place, wanted: each (stride, first), as above.
        interpolation: "bilinear" or "nearest".

    Returns:
        float32 [B, H, W, C].
    """
    maps = tf.cast(maps, tf.float32)
    for axis, equation in ((1, "yh,bhwc->bywc"), (2, "xw,bhwc->bhxc")):
        count = maps.shape[axis] or tf.shape(maps)[axis]
        pixels = wanted[0] * tf.range(size[axis - 1], dtype=tf.float32) + wanted[1]
        cells = (pixels - place[1]) / place[0]
        if interpolation == "nearest":
            cells = tf.floor(cells + 0.5)
        cells = tf.clip_by_value(cells, 0, tf.cast(count, tf.float32) - 1)
        distances = tf.abs(cells[:, None] - tf.range(count, dtype=tf.float32))
        maps = tf.einsum(equation, tf.nn.relu(1 - distances), maps)
    return maps
