"""Encoded pictures to pixels in TensorFlow's ops alone, for graphs that are served."""

import tensorflow as tf
from PIL import Image
from PIL.ExifTags import Base

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 33  # up to the end of its first chunk, which has the size
_EXIF_SEARCHED_BYTES = 2**16


def squashed(data, image_size):
    """A JPEG's or PNG's bytes -> float32 [image_size, image_size, 3], 0 to 255.

    The whole picture is made square, every pixel being looked at (`crops.evaluation_view`'s
    "squash"). A JPEG is turned as its EXIF says, where that stands in the file's first 64 KiB, as
    cameras write it; a PNG's EXIF is not read. What is transparent is on white, and 16 bits are not
    cut off.

    InvalidArgumentError, when it runs, for what is not a whole JPEG or PNG (also a GIF and the
    empty string) or has more pixels than Pillow's limit, MAX_IMAGE_PIXELS, when this is traced.
    """
    size = (image_size, image_size)
    max_pixels = Image.MAX_IMAGE_PIXELS

    def of_jpeg():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(data))
        with tf.control_dependencies([_assert_not_too_large(height, width, max_pixels)]):
            image = tf.io.decode_jpeg(data, channels=3)
        # The square is turned, not the picture: that is the same, and less to move.
        return _upright(tf.image.resize(image, size, antialias=True), _orientation(data))

    def of_png():
        width, height = tf.unstack(
            tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False), 2
        )
        with tf.control_dependencies([_assert_not_too_large(height, width, max_pixels)]):
            image = tf.io.decode_png(data, channels=4, dtype=tf.uint16)
        color, opacity = tf.split(tf.cast(image, tf.float32), (3, 1), axis=-1)
        opacity /= 65535
        # TensorFlow 2.21 fills in 1, 3 or 15 of 255 where an opaque PNG has fewer than 8 bits; what
        # really is as faint as that all over is no picture.
        opacity = tf.where(tf.reduce_max(opacity) < 16 / 255, 1.0, opacity)
        return tf.image.resize(color / 257 * opacity + 255 * (1 - opacity), size, antialias=True)

    is_jpeg, length = tf.io.is_jpeg(data), tf.strings.length(data)
    is_png = (tf.strings.substr(data, 0, 8) == _PNG) & (length >= _PNG_HEADER_BYTES)
    message = (
        "expected the bytes of a JPEG or PNG file; the number of bytes found, of another kind:"
    )
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, [message, length])]):
        image = tf.cond(is_jpeg, of_jpeg, of_png)
    return tf.ensure_shape(image, (*size, 3))


def _assert_not_too_large(height, width, max_pixels):
    few = tf.cast(height, tf.int64) * tf.cast(width, tf.int64) <= max_pixels
    message = f"expected a picture of at most {max_pixels} pixels; height and width found:"
    return tf.debugging.Assert(few, [message, height, width])


def _orientation(data):
    """The EXIF orientation of a JPEG's bytes, int32, 1 to 8; 1, upright, where it tells none.

    The first segment of EXIF is FF E1, two bytes of length, "Exif", two zeros and a TIFF file: II
    or MM for the bytes' order, 42, where its directory starts, there the number of entries, and
    twelve bytes an entry: tag, type, count and, at the eighth byte, the value.
    """
    head = tf.io.decode_raw(tf.strings.substr(data, 0, _EXIF_SEARCHED_BYTES), tf.uint8)
    head = tf.pad(tf.cast(head, tf.int32), [[0, 16]])  # at least as long as what is looked for
    starts = tf.size(head) - 10
    is_start = tf.fill([starts], True)
    for place, byte in {0: 0xFF, 1: 0xE1, **dict(enumerate(b"Exif\0\0", 4))}.items():
        is_start &= head[place : place + starts] == byte
    tiff = tf.argmax(is_start, output_type=tf.int32) + 10
    is_little_endian = head[tiff] == ord("I")

    def number(places, length):
        places = tf.expand_dims(places, -1) + tf.range(length)
        found = tf.gather(head, tf.clip_by_value(places, 0, tf.size(head) - 1))
        powers = 256 ** tf.range(length)
        return tf.reduce_sum(found * tf.where(is_little_endian, powers, powers[::-1]), axis=-1)

    directory = tiff + number(tiff + 4, 4)
    entries = directory + 2 + 12 * tf.range(number(directory, 2))
    values = tf.where(number(entries, 2) == int(Base.Orientation), number(entries + 8, 2), 0)
    value = tf.reduce_max(tf.concat([values, [0]], axis=0))
    return tf.where(tf.reduce_any(is_start) & (value >= 1) & (value <= 8), value, 1)


def _upright(image, orientation):
    """Turn a square image as EXIF's orientation asks."""

    def where(orientations, change, image):
        return tf.cond(
            tf.reduce_any(orientation == orientations), lambda: change(image), lambda: image
        )

    image = where([5, 6, 7, 8], lambda x: tf.transpose(x, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda x: tf.reverse(x, [1]), image)
    return where([3, 4, 7, 8], lambda x: tf.reverse(x, [0]), image)
