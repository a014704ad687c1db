"""One picture file: checked, brought to a form that TensorFlow reads, decoded to a tensor."""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import re

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

# Pillow reads more, some of it by calling other programs.
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
_FORMATS = tuple(_ENDINGS)
SUFFIXES = frozenset(ending for endings in _ENDINGS.values() for ending in endings)
_JPEG = ("JPEG", "MPO")  # Pillow calls a JPEG with others behind it MPO
_TURNED = (5, 6, 7, 8)  # EXIF's orientations that swap width and height; 1 is upright


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that can be read.

    Attributes:
        data: the bytes of a JPEG or PNG file that TensorFlow decodes to uint8 [H, W, 3].
        size: (width, height) of that.
        size_before: (width, height) as stored, before a rotation that the EXIF asked for.
        is_as_stored: whether `data` are the file's own bytes.
        digest: the SHA-256 of the file's own bytes.
    """

    data: bytes
    size: tuple[int, int]
    size_before: tuple[int, int]
    is_as_stored: bool
    digest: bytes


def is_named_so(path):
    """Whether a file's name says that it is a picture of a kind that is read."""
    return path.suffix.lower() in SUFFIXES


def kinds(paths):
    """What files are, as text: their endings, or the names of those without; five at most."""
    found = sorted({path.suffix.lower() or path.name for path in paths})
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def read(path):
    """Read a picture file, whatever its name says it is.

    A JPEG or PNG of 8 bits in RGB or grey keeps its bytes. Others are written anew: rotated as the
    EXIF says, the first frame of several, on white where transparent, 16 bits to 8.

    Raises ValueError for a file that is empty, cut off or no picture, or has more pixels than
    Pillow's limit.
    """
    data = pathlib.Path(path).read_bytes()
    if not data:
        raise ValueError("empty")
    digest = hashlib.sha256(data).digest()
    with _opened(io.BytesIO(data)) as image:
        size_before = image.size
        is_as_stored = _is_plain(image, data)
        if not is_as_stored:
            is_jpeg = image.format in _JPEG
            image.load()
            data = _encoded(np.asarray(in_rgb(ImageOps.exif_transpose(image))), is_jpeg)
        # Decoded by what will read it in training: no epoch shall stop at a broken file.
        height, width, _ = decode(data).shape
    return Picture(data, (width, height), size_before, is_as_stored, digest)


def open_rgb(path, at_least=None):
    """A picture file as an upright Pillow image in RGB, read as `read` does.

    With `at_least` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where each of its sides keeps
    so many pixels: sooner, and with less memory.

    Raises ValueError as `read` does, and for a file that is not there.
    """
    with _opened(path) as image:
        if at_least:
            image.draft(None, (at_least, at_least))
        image.load()
        # Where nothing is to be done, no copy: a picture may have 50 million pixels.
        ImageOps.exif_transpose(image, in_place=True)
        is_plain = image.mode == "RGB" and not image.has_transparency_data
        return image if is_plain else in_rgb(image)


def whole_size(path, image):
    """(width, height) of a file that `open_rgb` gave, maybe smaller, as an image."""
    with _opened(path) as file:
        if file.format not in _JPEG:
            return image.size
        is_turned = file.getexif().get(Base.Orientation, 1) in _TURNED
        return file.size[::-1] if is_turned else file.size


def decode(data):
    """A JPEG's or PNG's bytes -> uint8 [H, W, 3]."""
    import tensorflow as tf  # here, as `casm_tf.extract` finds pictures before it is needed

    return tf.io.decode_image(data, channels=3, expand_animations=False)


def read_mask(path):
    """A mask file -> uint8 [H, W], salient where it is neither black nor transparent.

    Raises ValueError as `read` does, and for a JPEG.
    """
    with _opened(path) as image:
        if image.format in _JPEG:
            raise ValueError("a mask is a PNG; found a JPEG, whose black is not exact")
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode in ("1", "P"):
            image = image.convert("RGB")
        mask = np.asarray(image)
    is_salient = mask != 0 if mask.ndim == 2 else mask[..., :3].any(axis=2)
    if image.mode == "RGBA":
        is_salient &= mask[..., 3] != 0
    return is_salient * np.uint8(255)


@contextlib.contextmanager
def _opened(source):
    """A file as Pillow opens it; what is raised meanwhile becomes a ValueError of one line."""
    try:
        with Image.open(source, formats=_FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS} pixels: {image.size}")
            yield image
    except Exception as error:  # Pillow raises whatever a broken file leads it to.
        raise ValueError(_line(error)) from error


def _line(error):
    if isinstance(error, UnidentifiedImageError):  # whose text has an address in memory
        return f"no picture: expected one of {', '.join(_FORMATS)}"
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error))  # where in TensorFlow's graph
    return " ".join(text.split())[:200] or type(error).__name__


def _is_plain(image, data):
    if image.mode not in ("RGB", "L") or image.getexif().get(Base.Orientation, 1) != 1:
        return False
    if image.format in _JPEG:
        return True
    # A PNG's 25th byte is its bits a channel, which Pillow does not tell.
    return (
        image.format == "PNG"
        and data[24] == 8
        and not getattr(image, "is_animated", False)
        and "transparency" not in image.info
    )


def in_rgb(image):
    """A Pillow image of any kind as one in RGB."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels of mode {image.mode} from {values.min()} to {values.max()}")
        # Pillow's own conversion cuts 16 bits off at 255.
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _encoded(image, as_jpeg):
    import cv2

    suffix, options = ".png", []
    if as_jpeg:
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]
    return cv2.imencode(suffix, image[..., ::-1], options)[1].tobytes()
