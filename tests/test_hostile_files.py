"""Files that are made to do harm: refused in one line, and nothing of them is run."""

import io
import json
import os
import pathlib
import struct
import zlib

import exports
import pytest
import trees
from PIL import Image
from programs import call

from casm_tf.cli import picture_files
from casm_tf.data import annotations, image_folder, skipped
from casm_tf.host import files

# === XML ===

BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 20))
HOSTILE_XML = {
    "entities of entities": f'<!DOCTYPE a [<!ENTITY e0 "ha">{BOMB}]><annotation>&e19;</annotation>',
    "a file's entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    + trees.xml([(0, 0, 30, 40)], name="&b;"),
    "a DTD from elsewhere": '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd">' + trees.xml([]),
    "an entity that is not there": trees.xml([(0, 0, 30, 40)], name="&b;"),
    "longer than any": trees.xml([(0, 0, 30, 40)]) + " " * 2**20,
}


@pytest.mark.parametrize("kind", HOSTILE_XML)
def test_hostile_xml_is_refused_by_name(kind, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(HOSTILE_XML[kind])
    with pytest.raises(ValueError, match=r"a\.xml: [^\n]+$"):
        annotations.read_xml(path, "cat", (60, 40))


def test_xml_as_deep_as_it_may_be_long_is_read(tmp_path):
    path, depth = tmp_path / "a.xml", 2**20 // 17 - 1
    path.write_text("<object>" * depth + "</object>" * depth)
    assert annotations.read_xml(path, "cat", (60, 40)).shape == (0, 4)


# === Pictures ===


def bomb():
    """A PNG of a few bytes that says it has 50,000 x 50,000 pixels."""
    file = io.BytesIO()
    Image.fromarray(trees.picture()).save(file, "PNG")
    png = bytearray(file.getvalue())
    png[16:24] = struct.pack(">II", 50_000, 50_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


NAMES = (
    "with  spaces",
    "with 'quotes' and \"these\"",
    "$(touch hacked)",
    "`touch hacked`; touch hacked",
    "a\nnew line",
    "-x",
    "--output=elsewhere",
    "%s{0}\\n",
    "\x1b[31mred",
    "강아지",
)


def harmful_tree(root):
    """A tree whose files and folders have such names, and for each a picture that is none."""
    for split in ("train", "val"):
        for label in ("$(touch hacked)", "-l 'a'"):
            for name in NAMES:
                trees.write(root / split / label / f"{name}.png")
    (root / "train" / "-l 'a'" / "a\nnew line.png").write_bytes(bomb())


def test_names_like_commands_and_a_bomb_go_through_image_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(skipped, "_LARGEST_BAD_SHARE", 0.1)
    root = tmp_path / "a $(touch hacked) 'tree'"
    harmful_tree(root)
    builder = image_folder.prepared(image_folder.config(root), tmp_path / "data")
    assert builder.info.splits["train"].num_examples == 19
    assert builder.info.splits["validation"].num_examples == 20
    names = {
        example["file_name"].decode() for example in builder.as_dataset("train").as_numpy_iterator()
    }
    assert {pathlib.PurePath(name).stem for name in names} == set(NAMES)
    (listed,) = (tmp_path / "data").rglob("skipped.txt")
    (line,) = listed.read_text().splitlines()
    assert line.startswith("train/-l 'a'/a\\nnew line.png: ") and "pixels" in line
    assert not list(tmp_path.rglob("hacked"))


def test_names_like_commands_and_a_bomb_go_through_extract(tmp_path):
    exported = exports.export_tiny(tmp_path / "serving" / "casm")
    for name in NAMES:
        trees.write(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "bomb\n.png").write_bytes(bomb())
    done = call("casm_tf.extract", f"--model={exported}", "in", "--", "in/-x.png", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "in/bomb\\n.png: " in done.stderr and "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {pathlib.Path(line["file"]).stem for line in lines} == set(NAMES)
    assert all((tmp_path / line["mask"]).is_file() for line in lines)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "masks", "serving"}


def test_a_limit_of_pixels_is_a_flag(tmp_path):
    exported = exports.export_tiny(tmp_path / "serving" / "casm")
    trees.write(tmp_path / "a.png")  # of 2,400
    arguments = (f"--model={exported}", "a.png", "--max_pixels=2399")
    done = call("casm_tf.extract", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and "a.png: more than 2399 pixels" in done.stderr


def test_nothing_is_written_above_the_output(tmp_path):
    trees.write(tmp_path / "in" / "deeper" / "a.png")
    with pytest.raises(ValueError, match=r"expected no \.\. behind a wildcard"):
        picture_files.find([f"{tmp_path}/in/*/../deeper/*.png"])


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    trees.write_tree(tmp_path / "tree", count=1)
    path = os.fsencode(tmp_path / "tree" / "train" / "cat") + b"/\xff.png"
    pathlib.Path(os.fsdecode(path)).write_bytes(bomb())
    with pytest.raises(ValueError, match=r"udcff.*expected a name in UTF-8"):
        image_folder.config(tmp_path / "tree")


def test_what_cannot_be_printed_is_escaped():
    assert files.printable("a b 강\n\x1b\udcff\u202e") == r"a b 강\n\x1b\udcff\u202e"
