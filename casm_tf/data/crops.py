"""What the networks see of a picture: random parts in training, a centred or squashed one else."""

import numpy as np
import tensorflow as tf

from casm_tf.choices import PROTOCOLS
from casm_tf.data import pictures

_DRAWS = 10  # sides that are drawn until they fit into the picture, as PyTorch does


def random_view(data, image_size, smallest, flip, seed):
    """A random part of a picture, resized: float32 [image_size, image_size, 3].

    As PyTorch's RandomResizedCrop takes it: its share of the area is even between `smallest` and 1,
    its ratio of width to height between 3/4 and 4/3, even in the logarithm. `smallest` 1 takes the
    whole picture. With `flip` every second one is mirrored. `data` are a JPEG's or PNG's bytes or
    what they decode to, uint8 [H, W, 3]; `seed` is two integers, the picture's own.
    """
    draws = tf.random.stateless_uniform((4, _DRAWS), seed)
    image = _part(data, lambda shape: _window(shape, smallest, draws))
    size = (image_size, image_size)
    # Up to twice the size bilinear interpolation looks at every pixel, and takes a quarter as long.
    image = tf.cond(
        tf.reduce_max(tf.shape(image)) > 2 * image_size,
        lambda: tf.image.resize(image, size, antialias=True),
        lambda: tf.image.resize(image, size),
    )
    if flip:
        image = tf.cond(draws[2, 1] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    image.set_shape((*size, 3))
    return image


def _part(data, window):
    """A part of a picture as a tensor, uint8 [h, w, 3].

    `data` are a JPEG's or PNG's bytes, or the picture, uint8 [H, W, 3]. `window` takes its shape,
    int32 [3], and gives the part's y, x, height and width. Of a JPEG no more is decoded than that
    needs.
    """

    def of_jpeg():
        return tf.io.decode_and_crop_jpeg(data, window(tf.io.extract_jpeg_shape(data)), channels=3)

    def of_decoded(image):
        y, x, height, width = tf.unstack(window(tf.shape(image)))
        return image[y : y + height, x : x + width]

    if data.dtype != tf.string:
        return of_decoded(data)
    found = tf.cond(tf.io.is_jpeg(data), of_jpeg, lambda: of_decoded(pictures.decode(data)))
    return tf.ensure_shape(found, (None, None, 3))


def decoded_bytes(data):
    """How many bytes a JPEG or PNG takes when it is decoded to uint8 [H, W, 3], int64 []."""

    def of_jpeg():
        return tf.io.extract_jpeg_shape(data)[:2]

    def of_png():
        return tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)[::-1]

    height_and_width = tf.cond(tf.io.is_jpeg(data), of_jpeg, of_png)
    return 3 * tf.reduce_prod(tf.cast(height_and_width, tf.int64))


def random_views(images, smallest, seed):
    """`random_view` of decoded images at their own size, [B, H, W, 3] -> float32 alike.

    Here a side that is drawn too long ends at the image's. `seed` is the batch's.
    """
    count, height, width = images.shape[0], *images.shape[1:3]
    draws = tf.random.stateless_uniform((4, count), seed)
    sides = [tf.minimum(side, 1) for side in _sides(smallest, draws)]
    starts = [(1 - side) * where for side, where in zip(sides, tf.unstack(draws[2:]), strict=True)]
    ends = [start + side for start, side in zip(starts, sides, strict=True)]
    # crop_and_resize takes corners between the centres of the first and the last pixel.
    corners = tf.stack([*starts, *ends], axis=1)
    return tf.image.crop_and_resize(images, corners, tf.range(count), (height, width))


def _sides(smallest, draws, height=1.0, width=1.0):
    """Heights and widths of random parts, float32 [n] each; `draws` [2 or more, n] in [0, 1)."""
    area = (smallest + (1 - smallest) * draws[0]) * height * width
    ratio = (4 / 3) ** (2 * draws[1] - 1)
    return tf.sqrt(area / ratio), tf.sqrt(area * ratio)


def _window(shape, smallest, draws):
    """y, x, height, width of a random part, int32; `draws` [4, n] are even in [0, 1)."""
    if smallest == 1:
        return tf.concat([[0, 0], shape[:2]], axis=0)
    height, width = tf.unstack(tf.cast(shape[:2], tf.float32))
    heights, widths = map(tf.round, _sides(smallest, draws, height, width))
    # The first that fits; where none does, in a very long picture, the first is cut off.
    chosen = tf.argmax((heights <= height) & (widths <= width))
    chosen_height = tf.clip_by_value(heights[chosen], 1, height)
    chosen_width = tf.clip_by_value(widths[chosen], 1, width)
    y = tf.floor(draws[2, 0] * (height - chosen_height + 1))
    x = tf.floor(draws[3, 0] * (width - chosen_width + 1))
    return tf.cast(tf.stack([y, x, chosen_height, chosen_width]), tf.int32)


def evaluation_view(image, boxes, image_size, protocol, resize, mask=None):
    """A picture, its boxes and its mask as they are scored.

    "centre_crop" resizes the shorter side to `resize` pixels and takes the square in the middle;
    boxes keep what is outside of it. "squash" makes the whole picture square.

    Args:
        image: uint8 [H, W, 3].
        boxes: float32 [N, 4], ymin, xmin, ymax, xmax in [0, 1].
        mask: bool [H, W] or None.

    Returns:
        The image, float32 [image_size, image_size, 3]; int32 boxes [N, 4], half-open x0, y0, x1, y1
        in its pixels; and the mask, bool [image_size, image_size]: what the object covers at least
        half of. None where there was none.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {' or '.join(map(repr, PROTOCOLS))}; found {protocol!r}")
    shape = tf.shape(image)[:2]
    if protocol == "squash":
        size, start = tf.constant((image_size, image_size)), (0, 0)
        moved = tf.cast(tf.round(tf.gather(boxes, [1, 0, 3, 2], axis=1) * image_size), tf.int32)
    else:
        size = shape * resize // tf.reduce_min(shape)
        start = tf.unstack(tf.cast(tf.round((size - image_size) / 2), tf.int32))
        moved = tf.numpy_function(
            lambda boxes, shape: _boxes_of_batch(boxes, shape, image_size, resize),
            (boxes, shape),
            tf.int32,
        )
    resized = image.shape[:2] != (image_size, image_size) or resize != image_size

    def seen(picture):
        if resized:
            picture = tf.image.resize(picture, size, antialias=True)
            picture = picture[start[0] : start[0] + image_size, start[1] : start[1] + image_size]
        picture = tf.cast(picture, tf.float32)
        return tf.ensure_shape(picture, (image_size, image_size, picture.shape[-1]))

    if mask is not None:
        mask = seen(tf.cast(mask, tf.float32)[..., None])[..., 0] >= 0.5
    return seen(image), tf.ensure_shape(moved, (None, 4)), mask


def boxes_in_crop(boxes, image_size, crop, resize=None):
    """Boxes of a photograph in the pixels of its square centre crop, int64 [N, 4], not clipped.

    `boxes` [N, 4] are in the photograph's pixels, `image_size` is its (width, height); its shorter
    side is resized to `resize` pixels, by default to `crop`. With s = resize / min(width, height),
    cut off towards zero,

        x' = s x - (s width - crop) / 2,    y' = s y - (s height - crop) / 2.
    """
    resize = crop if resize is None else resize
    size = np.asarray(image_size)
    scale = resize / size.min()
    margin = (size * scale - crop) / 2
    # A rounding error here could move a box by a whole pixel.
    margin[size.argmin()] = (resize - crop) / 2
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.trunc(boxes * scale - np.tile(margin, 2)).astype(np.int64)


def _boxes_of_batch(boxes, shape, image_size, resize):
    # The pixels that the annotation gave: as shares in float32 they are off by up to 1e-4.
    pixels = np.round(boxes[:, [1, 0, 3, 2]] * np.tile(shape[::-1], 2), 3)
    found = boxes_in_crop(pixels, shape[::-1], image_size, resize)
    return found.astype(np.int32)
