"""The exported model's decoding of pictures against the data's."""

import cv2
import exports
import numpy as np
import pytest
import tensorflow as tf
import trees
from PIL import Image

from casm_tf.data import crops, pictures
from casm_tf.serving import decoding

squashed = tf.function(
    lambda data: decoding.squashed(data, exports.SIZE),
    input_signature=[tf.TensorSpec((), tf.string)],
)


def exif(orientation, byte_order="<"):
    """EXIF with other entries round the orientation, in either order of bytes."""
    tags = Image.Exif()
    tags.endian = byte_order
    tags[0x010F], tags[0x0112], tags[0x0131] = "maker", orientation, "software"
    return tags.tobytes()


@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(orientation, byte_order, tmp_path):
    # Of one size with the network's: each pixel of the turned picture is one of the plain one's.
    data = trees.encoded(trees.picture(0, 32, 32), exif=exif(orientation, byte_order))
    path = tmp_path / "turned.jpg"
    path.write_bytes(data)
    assert Image.open(path).getexif()[0x0112] == orientation
    expected = np.asarray(pictures.open_rgb(path), np.float32)
    # Two decoders; a turn that is missed is off by more than 100.
    assert squashed(data).numpy() == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("orientation", [b"\0\0", b"\x09\0", b"\xff\xff"])
def test_an_orientation_that_there_is_not_is_upright(orientation):
    plain = trees.picture(0, 32, 32)
    data = trees.encoded(plain, exif=exif(6))
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00"
    assert data.count(entry + b"\x06\0") == 1
    data = data.replace(entry + b"\x06\0", entry + orientation)
    assert squashed(data).numpy().tolist() == squashed(trees.encoded(plain)).numpy().tolist()


def test_exif_that_is_cut_off_is_upright():
    plain = trees.picture(0, 32, 32)
    for exif_bytes in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff",
    ):
        found = squashed(trees.encoded(plain, exif=exif_bytes)).numpy()
        assert found.tolist() == squashed(trees.encoded(plain)).numpy().tolist()


def png_kinds():
    plain = trees.picture(0, 40, 60)
    deep = cv2.resize(np.random.default_rng(0).integers(0, 65536, (4, 6), np.uint16), (60, 40))
    transparent = Image.fromarray(plain)
    transparent.putalpha(Image.fromarray(trees.picture(1, 40, 60)[..., 0]))
    palette = Image.fromarray(plain).quantize(16)
    return {
        "RGB": Image.fromarray(plain),
        "grey": Image.fromarray(plain[..., 0]),
        "16 bits": Image.fromarray(deep),
        "transparent": transparent,
        "palette": palette,
        "1 bit": Image.fromarray(plain).convert("1"),
        "palette with a transparent colour": transparent.quantize(16),
    }


@pytest.mark.parametrize("kind", png_kinds())
def test_pngs_of_every_kind_are_read_as_the_data_are(kind, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(trees.encoded(png_kinds()[kind], "PNG"))
    image = pictures.decode(pictures.read(path).data)
    expected = crops.evaluation_view(image, np.zeros((0, 4)), 32, "squash", 32)[0].numpy()
    # The data's are rounded to whole numbers before they are resized.
    off = 1 if "16" in kind or "transparent" in kind else 1e-3
    assert squashed(path.read_bytes()).numpy() == pytest.approx(expected, abs=off)


def test_a_cmyk_jpeg(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(trees.encoded(Image.fromarray(trees.picture(0, 32, 32)).convert("CMYK")))
    expected = np.asarray(pictures.open_rgb(path), np.float32)
    assert squashed(path.read_bytes()).numpy() == pytest.approx(expected, abs=4)


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded():
    data = bytearray(trees.encoded(trees.picture(), "PNG"))
    data[16:24] = (20000).to_bytes(4, "big") * 2
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 89478485 pixels.*20000"):
        squashed(bytes(data))
    data = trees.encoded(trees.picture(0, 40, 60))
    size = (40).to_bytes(2, "big") + (60).to_bytes(2, "big")
    assert data.count(size) == 1
    data = data.replace(size, (30000).to_bytes(2, "big") * 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 89478485 pixels.*30000"):
        squashed(data)
