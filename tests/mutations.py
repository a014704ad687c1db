"""Small good files of every kind, and ways to break them."""

import io
import pathlib
import struct
import zlib

import numpy as np
import trees
from PIL import Image

_SIZES = (0, 1, 255, 9_000, 65_535, 2**31 - 1, 2**32 - 1)  # what lengths are overwritten with


# === Good files ===


def good_pictures():
    """{file's name: bytes}."""
    rgb = Image.fromarray(trees.picture())
    grey, palette = rgb.convert("L"), rgb.quantize(64)
    alpha = Image.fromarray(np.dstack([trees.picture(), np.asarray(grey)]))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    several = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    return {
        "rgb.jpg": _saved(rgb, "JPEG"),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "grey.jpg": _saved(grey, "JPEG"),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "exif.jpg": _saved(rgb, "JPEG", exif=exif),
        "rgb.png": _saved(rgb, "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "deep.png": _saved(deep, "PNG"),
        "alpha.png": _saved(alpha, "PNG", exif=exif),
        "animated.png": _saved(rgb, "PNG", **several),
        "animated.gif": _saved(palette, "GIF", **several),
        "rgb.webp": _saved(rgb, "WEBP"),
        "animated.webp": _saved(rgb, "WEBP", **several),
        "rgb.tif": _saved(rgb, "TIFF"),
        "packed.tif": _saved(deep, "TIFF", compression="tiff_lzw"),
        "rgb.bmp": _saved(rgb, "BMP"),
        "rgb.avif": _saved(rgb, "AVIF"),
        "rgb.jp2": _saved(rgb, "JPEG2000"),
        "grey.pgm": _saved(grey, "PPM"),
    }


def good_annotations():
    boxes = [(6, 4, 30, 20), (30, 20, 59, 39)]
    rows = ["image,x0,y0,x1,y1", "cat/a.jpg,1,2,3,4", '"cat/b, c.jpg",1.5,2,3,4', "고양이,1,2,3,4"]
    mask = Image.fromarray(np.asarray(Image.fromarray(trees.picture()).convert("L")) > 99)
    return {
        "voc.xml": trees.xml(boxes).encode(),
        "ilsvrc.xml": ("<?xml version='1.0'?>\n" + trees.xml(boxes, "n01440764", None)).encode(),
        "boxes.csv": "\n".join(rows).encode(),
        "bits.mask.png": _saved(mask, "PNG"),
        "grey.mask.png": _saved(mask.convert("L"), "PNG"),
        "gbk.xml": ('<?xml version="1.0" encoding="gbk"?>' + trees.xml(boxes, "猫")).encode("gbk"),
        "palette.mask.png": _saved(mask.convert("P"), "PNG"),
    }


def _saved(image, name, **options):
    file = io.BytesIO()
    image.save(file, format=name, **options)
    return file.getvalue()


# === What is done to them ===


def mutated(data, draws, name=""):
    """Bytes, broken in one to three ways."""
    own = {".png": _png_chunk, ".tfr": _record}.get(pathlib.PurePath(name).suffix[:4])
    ways = [_flip, _cut, _double, _delete, _insert, _resize, _join, *([own] * 4 if own else [])]
    for _ in range(draws.integers(1, 3)):
        data = ways[draws.integers(len(ways))](data, draws)
    return data


def _range(data, draws):
    start = int(draws.integers(len(data) + 1))
    return start, start + int(draws.integers(1, max(2, len(data) // 4)))


def _flip(data, draws):
    data = bytearray(data)
    for _ in range(draws.integers(1, 9) if data else 0):
        data[draws.integers(len(data))] ^= 1 << draws.integers(8)
    return bytes(data)


def _cut(data, draws):
    return data[: draws.integers(len(data) + 1)]


def _double(data, draws):
    start, end = _range(data, draws)
    return data[:end] + data[start:]


def _delete(data, draws):
    start, end = _range(data, draws)
    return data[:start] + data[end:]


def _insert(data, draws):
    start, _ = _range(data, draws)
    return data[:start] + draws.bytes(draws.integers(1, 200)) + data[start:]


def _resize(data, draws):
    """A length, if there is one where it falls, becomes another; digits become many."""
    size = _SIZES[draws.integers(len(_SIZES))]
    digits = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if digits and draws.integers(2):
        at = digits[draws.integers(len(digits))]
        return data[:at] + str(size).encode() * draws.integers(1, 3) + data[at + 1 :]
    order, form = "<>"[draws.integers(2)], "HI"[draws.integers(2)]
    packed = struct.pack(order + form, size % 2 ** (8 * struct.calcsize(order + form)))
    at = int(draws.integers(max(1, min(len(data), 64))))  # lengths stand in heads
    return data[:at] + packed + data[at + len(packed) :]


def _join(data, draws):
    return data + data


def _png_chunk(data, draws):
    """A chunk of a PNG is changed and its checksum made right again."""
    starts, at = [], 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    if not starts:
        return data
    at = starts[draws.integers(min(2, len(starts)))]
    length = int.from_bytes(data[at : at + 4], "big")
    inner = (_flip, _resize)[draws.integers(2)](data[at + 8 : at + 8 + length], draws)[:length]
    checked = data[at + 4 : at + 8] + inner
    chunk = data[at : at + 4] + checked + struct.pack(">I", zlib.crc32(checked))
    return data[:at] + chunk + data[at + 12 + length :]


def records(data):
    """The records of a whole TFRecord file."""
    found, at = [], 0
    while at + 16 <= len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        found.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return found


def as_file(found):
    """A TFRecord file of records, its checksums right."""
    return b"".join(record_head(len(record)) + record + _checksum(record) for record in found)


def record_head(length):
    head = struct.pack("<Q", length)
    return head + _checksum(head)


def _record(data, draws):
    """One record is changed in its own length and its checksum made right again."""
    found = records(data)
    if not found:
        return data
    at = draws.integers(len(found))
    changed = (_flip, _resize)[draws.integers(2)](found[at], draws)
    found[at] = changed[: len(found[at])]
    return as_file(found)


_TABLE = []
for _value in range(256):
    for _ in range(8):
        _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
    _TABLE.append(_value)


def _checksum(data):
    """TFRecord's: CRC-32C, turned and moved."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)
