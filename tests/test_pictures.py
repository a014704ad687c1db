"""Single pictures: those of every kind are read rightly, what is none is refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from trees import picture, write

from casm_tf.data import pictures


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
PALETTE = Image.fromarray(RGB).quantize(64)
COLOURS = np.asarray(PALETTE.convert("RGB"))
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned to the right by a quarter

WIDE = np.tile(RGB[:2], (1, 500, 1))  # 30,000 pixels

READ_RIGHTLY = {
    "RGB JPEG": (saved(Image.fromarray(RGB), format="JPEG", quality=95), RGB),
    "RGB PNG": (saved(Image.fromarray(RGB), format="PNG"), RGB),
    "grey JPEG": (saved(Image.fromarray(GREY), format="JPEG", quality=95), GREY),
    "grey PNG": (saved(Image.fromarray(GREY), format="PNG"), GREY),
    "CMYK": (saved(Image.fromarray(RGB).convert("CMYK"), format="JPEG", quality=95), RGB),
    "palette": (saved(PALETTE, format="PNG"), COLOURS),
    "16 bits": (saved(Image.fromarray(GREY.astype(np.uint16) * 257), format="PNG"), GREY),
    "grey and transparent": (
        saved(Image.fromarray(np.dstack([GREY, np.zeros_like(GREY)])), format="PNG"),
        np.full_like(GREY, 255),
    ),
    "animated PNG": (
        saved(
            Image.fromarray(RGB),
            format="PNG",
            save_all=True,
            append_images=[Image.fromarray(255 - RGB)],
        ),
        RGB,
    ),
    "one pixel": (saved(Image.fromarray(RGB[:1, :1]), format="PNG"), RGB[:1, :1]),
    "wide": (saved(Image.fromarray(WIDE), format="PNG"), WIDE),
    "TIFF": (saved(Image.fromarray(RGB), format="TIFF"), RGB),
    "16-bit TIFF": (saved(Image.fromarray(GREY.astype(np.uint16) * 257), format="TIFF"), GREY),
    "AVIF": (saved(Image.fromarray(RGB), format="AVIF", quality=95), RGB),
    "JPEG 2000": (saved(Image.fromarray(RGB), format="JPEG2000"), RGB),
    "PPM": (saved(Image.fromarray(RGB), format="PPM"), RGB),
    "16-bit PGM": (b"P5 60 40 65535\n" + (GREY.astype(">u2") * 257).tobytes(), GREY),
    "bits": (saved(Image.fromarray(GREY > 99), format="PPM"), (GREY > 99) * np.uint8(255)),
    "BMP": (saved(Image.fromarray(RGB), format="BMP"), RGB),
    "WebP": (saved(Image.fromarray(RGB), format="WEBP", quality=95), RGB),
    "rotated": (
        saved(Image.fromarray(RGB), format="JPEG", quality=95, exif=EXIF),
        np.rot90(RGB, -1),
    ),
    "animated": (
        saved(
            PALETTE,
            format="GIF",
            save_all=True,
            append_images=[Image.fromarray(255 - RGB).quantize(64)],
        ),
        COLOURS,
    ),
    "transparent": (
        saved(Image.fromarray(np.dstack([RGB, np.zeros_like(GREY)])), format="PNG"),
        np.full_like(RGB, 255),
    ),
}


@pytest.mark.parametrize("kind", READ_RIGHTLY)
def test_files_of_every_kind_are_read_rightly_whatever_their_name(kind, tmp_path):
    data, expected = READ_RIGHTLY[kind]
    path = tmp_path / "a.JPEG"
    path.write_bytes(data)
    found = pictures.read(path)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    decoded = pictures.decode(found.data).numpy()
    assert decoded.shape == expected.shape
    assert found.size == decoded.shape[1::-1]
    # A JPEG's colours are a little off.
    assert np.abs(decoded.astype(int) - expected).mean() < 3
    is_kept = kind in ("RGB JPEG", "RGB PNG", "grey JPEG", "grey PNG", "one pixel", "wide")
    assert (found.data == data) == is_kept
    assert tf.io.is_jpeg(found.data) == (kind in ("RGB JPEG", "grey JPEG", "CMYK", "rotated"))


BAD = {
    "empty": b"",
    "cut off": READ_RIGHTLY["RGB JPEG"][0][:500],
    "cut-off PNG": READ_RIGHTLY["RGB PNG"][0][:500],
    "cut-off palette": READ_RIGHTLY["palette"][0][:500],
    "text": b"<html>404 Not Found</html>",
    "head only": READ_RIGHTLY["RGB JPEG"][0][:3],
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_a_value_error_of_one_line(kind, tmp_path):
    (tmp_path / "a.JPEG").write_bytes(BAD[kind])
    with pytest.raises(ValueError, match=r"^[^\n{<]+$"):
        pictures.read(tmp_path / "a.JPEG")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [2399, 1199])  # where Pillow warns, and where it refuses
def test_a_picture_of_too_many_pixels_is_bad(limit, tmp_path, monkeypatch):
    write(tmp_path / "a.png")  # of 2,400
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match="pixels"):
        pictures.read(tmp_path / "a.png")


BAR = np.zeros((40, 60), np.uint8)
BAR[4:20, 6:30] = 1
VOC = Image.fromarray(BAR)
VOC.putpalette([0, 0, 0, 128, 0, 0, *[224] * 762])
MASKS = {
    "of 0 and 1": Image.fromarray(BAR),
    "of 0 and 255": Image.fromarray(BAR * 255),
    "of bits": Image.fromarray(BAR > 0),
    "of 16 bits": Image.fromarray(BAR.astype(np.uint16)),
    "VOC's palette": VOC,
    "in colour": Image.fromarray(BAR[..., None] * np.uint8([0, 1, 0])),
    "cut out": Image.fromarray(np.dstack([np.full((40, 60, 3), 9, np.uint8), BAR * 255])),
    "grey, cut out": Image.fromarray(np.dstack([np.full_like(BAR, 9), BAR]), "LA"),
    "opaque": Image.fromarray(np.dstack([*[BAR] * 3, np.full_like(BAR, 255)])),
    "opaque and grey": Image.fromarray(np.dstack([BAR, np.full_like(BAR, 255)]), "LA"),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_masks_of_every_kind_are_salient_where_they_are_not_black(kind, tmp_path):
    MASKS[kind].save(tmp_path / "a.png")
    assert np.array_equal(pictures.read_mask(tmp_path / "a.png"), BAR * 255)


def test_a_jpeg_is_no_mask(tmp_path):
    Image.fromarray(BAR * 255).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(ValueError, match="a mask is a PNG; found a JPEG"):
        pictures.read_mask(tmp_path / "a.png")
