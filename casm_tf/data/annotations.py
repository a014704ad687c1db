"""Boxes and masks that lie beside pictures: ILSVRC's and VOC's XML files, a CSV, folders of PNGs.

Boxes are float64 [N, 4], x0, y0, x1, y1 in shares of the picture's sides.
"""

import codecs
import collections
import csv
import io
import itertools
import pathlib
import re
import unicodedata
import xml.etree.ElementTree as ElementTree

import numpy as np

from casm_tf.data import pictures
from casm_tf.host import files

MAX_XML_BYTES = 2**20  # an object takes 200
_COLUMNS = ["image", "x0", "y0", "x1", "y1"]
_SHARES = "boxes are in pixels; these look like shares of the picture: no value is above 1"
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""")


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
    there = dict(files.below(folder)) if pathlib.Path(folder).is_dir() else {}
    found = {
        normal(name[: -len(suffix)]): pathlib.Path(entry.path)
        for name, entry in there.items()
        if name.lower().endswith(suffix)
    }
    if not found:
        kinds = f"; found {pictures.kinds(map(pathlib.Path, there))}" if there else ""
        raise ValueError(f"{folder} has no {suffix} files{kinds}")
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


def unmatched(source, there, used):
    """Lines that tell which annotations belong to no picture.

    `there` is {name: annotation} as `files_below` or `read_table` give it of `source`, `used` the
    names of those that belong to one.
    """
    left = {name: there[name] for name in sorted(there.keys() - set(used))}
    paths = [f"{source}, {x}" if isinstance(y, list) else y for x, y in left.items()]
    return [f"{path}: fits no picture" for path in paths]


def not_png(folder, there):
    """Lines that tell which pictures of a folder of masks are no PNG, nor have one beside them."""
    names = sorted(pathlib.PurePath(name) for name, _ in files.below(folder))
    return [
        f"{folder / name}: a mask is a .png"
        for name in filter(pictures.is_named_so, names)
        if normal(name.with_suffix("").as_posix()) not in there
    ]


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
    (no annotation has one, and entities could make a few bytes gigabytes), has boxes of shares, or
    was drawn on the picture before its rotation.
    """
    length = pathlib.Path(path).stat().st_size
    if length > MAX_XML_BYTES:
        raise ValueError(f"{path}: {length} bytes; expected at most {MAX_XML_BYTES}")
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    try:
        parser.feed(_text(pathlib.Path(path).read_bytes()))
        root = parser.close()
        objects = [
            (normal(item.findtext("name", "").strip()), item.find("bndbox"))
            for item in root.iter("object")
        ]
        if any(name == label for name, _ in objects):
            objects = [(name, box) for name, box in objects if name == label]
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = [[_number(box, x) for x in sides] for _, box in objects if box is not None]
        written = tuple(_number(root, f"size/{key}", "0") for key in ("width", "height"))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not np.isfinite([*boxes, [*written, 0, 0]]).all():
        raise ValueError(f"{path}: a box or the size is not of finite numbers")
    if size_before not in (None, size) and written == size_before:
        raise ValueError(f"{path}: its boxes are of the picture before its EXIF rotation")
    if min(written) <= 0:
        written = size
    if max(written) > 1 and _are_shares(boxes):
        raise ValueError(f"{path}: {_SHARES}")
    return shares(boxes, written)


def _number(item, key, default=""):
    text = item.findtext(key) or default
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"expected a number in <{key}>; found {text!r}") from error


def _text(data):
    """An XML file in the encoding that it declares, as text: expat itself knows few.

    Where it declares none it stays bytes, of which expat knows UTF-8 and UTF-16 by their beginning.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig")
    data = data.lstrip()
    declared = _DECLARED.match(data)
    if not declared:
        return data
    name = codecs.lookup(declared[1].decode()).name
    if name == "punycode":  # no encoding of files; a megabyte takes more than a minute
        raise ValueError("is encoded in punycode")
    # What can be read byte by byte is not in UTF-16, whatever it says: .NET writes so.
    return data.decode("utf-8" if name.startswith(("utf-16", "utf-32")) else name)


class _WithoutDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_):
        raise ValueError("has a DOCTYPE")


def read_table(path):
    """{picture: its boxes in pixels} of a CSV file: image, x0, y0, x1, y1; several rows an image.

    In UTF-8, or UTF-16 with its mark; between commas, semicolons or tabs. `image` is a picture's
    name, alone or after its folders; it stands in the result without .jpg or the like. A row with a
    name alone is of a picture without a box. Raises ValueError for a file of another form, and
    where all boxes are of shares.
    """
    boxes = collections.defaultdict(list)
    data = pathlib.Path(path).read_bytes()
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
        first = re.match(r"[^\r\n]*", text)[0]
        separator = next((sign for sign in ";\t" if sign in first), ",")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = _cells(next(rows, []))
        if [name.lower() for name in header] != _COLUMNS:
            raise ValueError(f"{path}: the first row is {','.join(_COLUMNS)}; found {header}")
        for row in filter(any, map(_cells, rows)):
            try:
                box = [float(value) for value in row[1:] if value or any(row[1:])]
            except ValueError:
                box = [np.nan]
            if len(row) != 5 or not row[0] or not np.isfinite(box).all():
                where = f"{path}, line {rows.line_num}"
                raise ValueError(f"{where}: expected a name and four numbers; found {row}")
            boxes[_picture_named(row[0])] += [box] if box else []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8; {error}") from error
    if _are_shares(itertools.chain.from_iterable(boxes.values())):
        raise ValueError(f"{path}: {_SHARES}")
    return dict(boxes)


def _cells(row):
    """A row's cells; a spreadsheet's empty ones behind the last column are cut off."""
    cells = [cell.strip() for cell in row]
    while len(cells) > len(_COLUMNS) and not cells[-1]:
        cells.pop()
    return cells


def _picture_named(name):
    """A picture's path as a table has it, maybe Windows's, as annotations are joined by it."""
    path = pathlib.PurePosixPath(normal(name).replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in pictures.SUFFIXES else path).as_posix()


def _are_shares(boxes):
    return 0 < max(itertools.chain.from_iterable(boxes), default=0) <= 1


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
