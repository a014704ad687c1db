"""Boxes and masks that lie beside pictures: ILSVRC's and VOC's XML files, a CSV, folders of PNGs.

Boxes are float64 [N, 4], x0, y0, x1, y1 in shares of the picture's sides.
"""

import collections
import csv
import itertools
import pathlib
import unicodedata
import xml.etree.ElementTree as ElementTree

import numpy as np

from casm_tf.data import pictures
from casm_tf.host import files

MAX_XML_BYTES = 2**20  # an object takes 200
_COLUMNS = ["image", "x0", "y0", "x1", "y1"]


def normal(name):
    """A name as one sequence of code points: macOS writes Korean letters in parts.

    Raises ValueError for the name of a file that is not in UTF-8: TFDS could not write it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!r}: expected a name in UTF-8") from error
    return unicodedata.normalize("NFC", name)


def files_below(folder, suffix):
    """{path in the folder, without its suffix: path} of the files at any depth.

    Raises ValueError where there is none.
    """
    found = {}
    if pathlib.Path(folder).is_dir():
        for name, entry in files.below(folder):
            if name.lower().endswith(suffix):
                found[normal(name[: -len(suffix)])] = pathlib.Path(entry.path)
    if not found:
        raise ValueError(f"{folder} has no {suffix} files")
    return found


def join(names, annotations):
    """{picture: annotation} of names that belong together by their ends.

    A picture's name is a path such as "val/cat/1.jpg", an annotation's is without a suffix. A pair
    has at least the last part in common. Where a name has several partners the one with the most
    parts in common is it; ValueError where those are several still.
    """
    candidates = collections.defaultdict(list)
    for name in annotations:
        candidates[name.rpartition("/")[2]].append(name)
    partners = collections.defaultdict(dict)
    for picture in names:
        stem = normal(picture.rpartition(".")[0])
        found = candidates.get(stem.rpartition("/")[2])
        if found:
            partners[_closest(picture, stem, {name: name for name in found})][picture] = stem
    return {_closest(name, name, found): name for name, found in partners.items()}


def _closest(name, stem, others):
    """Of {other name: its stem} the name with the most parts at the end in common with a stem."""
    common = {other: _common_parts(stem, parts) for other, parts in others.items()}
    most = max(common.values())
    best = [other for other in others if common[other] == most]
    if len(best) > 1:
        raise ValueError(f"{name} fits {best[0]} and {best[1]}: expected one")
    return best[0]


def _common_parts(name, other):
    pairs = zip(reversed(name.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def read_xml(path, label, size, size_before=None):
    """The boxes of an ILSVRC or VOC file.

    If some of its objects have the name `label`, only those count. Coordinates are in the file's
    own <size> or, without one, in `size`, the picture's (width, height). `size_before` is the size
    before the picture was rotated as its EXIF says, where it was.

    Raises ValueError for a file that is not of this form, has more than MAX_XML_BYTES or a DOCTYPE
    (no annotation has one, and entities could make a few bytes gigabytes), or was drawn on the
    picture before its rotation.
    """
    length = pathlib.Path(path).stat().st_size
    if length > MAX_XML_BYTES:
        raise ValueError(f"{path}: {length} bytes; expected at most {MAX_XML_BYTES}")
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        root = ElementTree.parse(path, parser).getroot()
        objects = [(item.findtext("name"), item.find("bndbox")) for item in root.iter("object")]
        if any(name == label for name, _ in objects):
            objects = [(name, box) for name, box in objects if name == label]
        boxes = [
            [float(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")]
            for _, box in objects
            if box is not None
        ]
        written = tuple(int(root.findtext(f"size/{key}") or 0) for key in ("width", "height"))
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not np.isfinite(boxes).all():
        raise ValueError(f"{path}: a box is not of finite numbers")
    if size_before not in (None, size) and written == size_before:
        raise ValueError(f"{path}: its boxes are of the picture before its EXIF rotation")
    return shares(boxes, written if min(written) > 0 else size)


class _WithoutDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_):
        raise ValueError("has a DOCTYPE")


def read_table(path):
    """{picture: its boxes in pixels} of a CSV file: image, x0, y0, x1, y1; several rows an image.

    `image` is a picture's name, alone or after its folders; it stands in the result without .jpg or
    the like. Raises ValueError for a file of another form.
    """
    boxes = collections.defaultdict(list)
    try:
        with pathlib.Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != _COLUMNS:
                raise ValueError(f"{path}: the first row is {','.join(_COLUMNS)}; found {header}")
            for row in filter(None, rows):
                name = pathlib.PurePosixPath(normal(row[0]))
                if name.suffix.lower() in pictures.SUFFIXES:
                    name = name.with_suffix("")
                try:
                    box = [float(value) for value in row[1:]]
                except ValueError:
                    box = []
                if len(box) != 4 or not np.isfinite(box).all():
                    where = f"{path}, line {rows.line_num}"
                    raise ValueError(f"{where}: expected a name and four numbers; found {row}")
                boxes[name.as_posix()].append(box)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8; {error}") from error
    return dict(boxes)


def shares(boxes, size):
    """Boxes in pixels as shares of a (width, height)."""
    return np.reshape(boxes, (-1, 4)).astype(np.float64) / np.tile(size, 2)


def clipped(boxes):
    """The boxes cut off at the picture's border, and how many were left out.

    Left out are boxes without an area: inverted, or wholly outside the picture.
    """
    inside = np.clip(boxes, 0, 1)
    whole = (inside[:, 0] < inside[:, 2]) & (inside[:, 1] < inside[:, 3])
    return inside[whole], int(np.sum(~whole))
