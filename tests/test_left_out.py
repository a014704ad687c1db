"""What lies in a folder and is not read is counted on the terminal and listed in skipped.txt."""

import errno
import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from trees import encoded, picture, write, write_tree, xml

from casm_tf.cli import picture_files
from casm_tf.data import image_folder
from casm_tf.host import files


def prepared(tmp_path, capsys, **beside):
    """The pictures' names of tmp_path/tree, the lines of skipped.txt, what the terminal says."""
    tree = image_folder.config(tmp_path / "tree", **beside)
    image_folder.prepared(tree, tmp_path / "data")
    lines = "".join(path.read_text() for path in tmp_path.rglob("skipped.txt")).splitlines()
    names = {name for names in tree.pictures.values() for name in names}
    return names, lines, capsys.readouterr().err.rpartition("\r")[2]


KINDS = {
    "a.jfif": {},
    "b.jpe": {},
    "c.avif": {"quality": 95},
    "d.jp2": {},
    "e.ppm": {},
    "f.PNM": {},
    "g.apng": {},
    "h.bmp": {},
    "i.tiff": {"compression": "tiff_lzw"},
    "j.webp": {"quality": 95},
    "k.gif": {},
}


def test_pictures_of_every_ending_are_taken(tmp_path, capsys):
    write_tree(tmp_path / "tree", count=1)
    for name, settings in KINDS.items():
        kind = Image.registered_extensions()[pathlib.Path(name).suffix.lower()]
        path = tmp_path / "tree" / "val" / "cat" / name
        path.write_bytes(encoded(picture(), kind, **settings))
    names, lines, said = prepared(tmp_path, capsys)
    assert {f"val/cat/{name}" for name in KINDS} <= names
    assert (lines, said) == ([], "")
    chosen, others = picture_files.find([str(tmp_path / "tree")])
    assert (len(chosen), others) == (4 + len(KINDS), [])


def test_what_is_no_picture_and_what_lies_elsewhere_is_told(tmp_path, capsys):
    root = tmp_path / "tree"
    write_tree(root, count=1)
    noise = ("Thumbs.db", ".DS_Store", "val/cat/._a.jpg", "__MACOSX/._a.jpg", "desktop.ini")
    for name in (*noise, "val/cat/b.heic", "LICENSE", "val/notes.txt", "val/cat/c.HEIC"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    write(root / "train" / "cat" / "2020" / "d.jpg")
    write(root / "e.jpg")
    (tmp_path / "linked").mkdir()
    write(tmp_path / "linked" / "f.jpg")
    (root / "val" / "dog" / "link").symlink_to(tmp_path / "linked")
    (root / "val" / "dog" / "loop").symlink_to(root / "val")
    names, lines, said = prepared(tmp_path, capsys)
    assert len(names) == 4
    assert lines == [
        "LICENSE: of no kind that is read",
        "val/cat/b.heic: of no kind that is read",
        "val/cat/c.HEIC: of no kind that is read",
        "val/notes.txt: of no kind that is read",
        "e.jpg: in a folder that is not read",
        "train/cat/2020/d.jpg: in a folder that is not read",
        "val/dog/link/f.jpg: in a folder that is not read",
    ]
    (path,) = tmp_path.rglob("skipped.txt")
    assert said == (
        f"left out  4 files are of no kind that is read (.heic, .txt, LICENSE); 3 pictures are in "
        f"folders that are not read (., train/cat/2020, val/dog/link): {path} lists them\n"
    )
    again = prepared(tmp_path, capsys)
    assert again == (names, lines, f"left out  7 files, boxes or masks: {path} lists them\n")


def test_who_waited_for_anothers_preparation_is_told_too(tmp_path, capsys, monkeypatch):
    write_tree(tmp_path / "tree", count=1)
    (tmp_path / "tree" / "notes.txt").write_text("")
    locked = files.locked

    def after_another(path):
        monkeypatch.undo()
        prepared(tmp_path, capsys)
        return locked(path)

    monkeypatch.setattr(files, "locked", after_another)
    _, _, said = prepared(tmp_path, capsys)
    assert said.startswith("left out  1 files, boxes or masks: ")


def test_linked_folders_are_searched_once(tmp_path, capsys):
    root = tmp_path / "tree"
    for number in range(3):
        write(root / "a" / f"{number}.jpg", picture(number))
        write(tmp_path / "elsewhere" / "deep" / f"{number}.jpg", picture(number))
        write(root / "b" / f"{number}.png", np.full((40, 60, 3), 255, np.uint8))
    (root / "away").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    (root / "0").symlink_to(root / "a")  # which comes before it
    (root / "broken.jpg").symlink_to(root / "nowhere.jpg")
    for number in range(2):
        path = tmp_path / "elsewhere" / f"{number}.xml"
        path.write_text(xml([(0, 0, 30, 40)]))
    (tmp_path / "boxes").symlink_to(tmp_path / "elsewhere")
    expected = {f"{folder}/{number}.jpg" for folder in ("a", "away/deep") for number in range(3)}
    expected |= {f"b/{number}.png" for number in range(3)} | {"broken.jpg"}
    tree = image_folder.config(root, unlabelled_as=("cat", "dog"))
    assert {name for names in tree.pictures.values() for name in names} == expected
    chosen, others = picture_files.find([str(root)])
    assert {path.relative_to(root).as_posix() for path, _ in chosen} == expected
    assert len(others) == 2  # the .xml files
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "inner").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "0.jpg").unlink()
    (root / "a" / "1.jpg").unlink()
    (root / "b" / "0.png").unlink()
    (root / "b" / "1.png").unlink()
    boxes = image_folder.config(root, tmp_path / "outer", unlabelled_as=("cat", "dog")).boxes
    assert set(boxes) == {"away/deep/0.jpg", "away/deep/1.jpg"}


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    write_tree(tmp_path / "tree", count=1)
    (tmp_path / "tree" / "val" / "lost+found").mkdir()
    scandir = os.scandir

    def closed_to_us(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed_to_us)
    chosen, others = picture_files.find([str(tmp_path / "tree")])
    assert (len(chosen), others) == (4, [tmp_path / "tree" / "val" / "lost+found"])


def test_annotations_of_no_picture_are_told(tmp_path, capsys):
    write_tree(tmp_path / "tree", count=1)
    rows = ["image,x0,y0,x1,y1", r"C:\tree\val\cat\cat_val_0.JPEG ,1,2,3,4", "kat_val_0,1,2,3,4"]
    rows += ["dog_vla_0,1,2,3,4", "dog_vla_0,2,2,3,4"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[4:20, 6:30] = 255
    write(tmp_path / "masks" / "cat_val_0.png", mask)
    write(tmp_path / "masks" / "lion.png", mask)
    write(tmp_path / "masks" / "dog_val_0.jpg", mask)
    write(tmp_path / "masks" / "cat_val_0.jpg", mask)  # beside its mask
    beside = {"boxes": tmp_path / "boxes.csv", "masks": tmp_path / "masks"}
    _, lines, said = prepared(tmp_path, capsys, **beside)
    assert lines == [
        f"{tmp_path}/boxes.csv, dog_vla_0: fits no picture",
        f"{tmp_path}/boxes.csv, kat_val_0: fits no picture",
        f"{tmp_path}/masks/lion.png: fits no picture",
        f"{tmp_path}/masks/dog_val_0.jpg: a mask is a .png",
    ]
    assert said.startswith("left out  2 of --boxes fit no picture; 2 of --masks fit ")


def test_masks_that_show_nothing_or_everything_are_told(tmp_path, capsys):
    write_tree(tmp_path / "tree", count=1)
    for name, value in {"cat_val_0": 0, "dog_val_0": 1, "cat_train_0": 255}.items():
        mask = np.full((40, 60, 3), value, np.uint8)
        write(tmp_path / "masks" / f"{name}.png", mask)
    mask[:9] = 0
    write(tmp_path / "masks" / "dog_train_0.png", mask)
    _, lines, said = prepared(tmp_path, capsys, masks=tmp_path / "masks")
    assert lines == [
        "train/cat/cat_train_0.JPEG: its mask is salient everywhere",
        "val/cat/cat_val_0.JPEG: its mask is salient nowhere",
        "val/dog/dog_val_0.JPEG: its mask is salient everywhere",
    ]
    assert "3 masks are salient everywhere or nowhere" in said


def test_boxes_of_width_and_height_are_told(tmp_path, capsys):
    write_tree(tmp_path / "tree", count=1)
    rows = [f"{label}_val_0,30,20,{side},10" for label in ("cat", "dog") for side in (10, 20)]
    rows = ["image,x0,y0,x1,y1", *rows, "cat_train_0,1,2,3,4"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    _, lines, said = prepared(tmp_path, capsys, boxes=tmp_path / "boxes.csv")
    assert len(lines) == 2
    assert (
        "4 of 5 boxes have no area; expected x0, y0, x1, y1: these look like x, y, width, height"
        in said
    )


def test_empty_boxes_are_not_taken_for_those_of_width_and_height(tmp_path, capsys):
    write_tree(tmp_path / "tree", count=1)
    rows = ["cat_val_0,0,0,0,0", "dog_val_0,5,5,5,9", "cat_train_0,1,2,30,40"]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,x0,y0,x1,y1", *rows]))
    _, lines, said = prepared(tmp_path, capsys, boxes=tmp_path / "boxes.csv")
    assert len(lines) == 2
    assert said.startswith("left out  2 of 3 boxes have no area: ")


def test_where_preparing_ends_early_the_count_is_of_what_was_read(tmp_path):
    write_tree(tmp_path / "tree", count=2)
    (tmp_path / "voc").mkdir()
    for path in (tmp_path / "tree").rglob("*.JPEG"):
        (tmp_path / "voc" / f"{path.stem}.xml").write_text(xml([("a", 0, 30, 40)]))
    tree = image_folder.config(tmp_path / "tree", boxes=tmp_path / "voc")
    with pytest.raises(ValueError) as refused:
        image_folder.prepared(tree, tmp_path / "data")
    (path,) = tmp_path.rglob("skipped.txt")
    assert str(refused.value) == (
        f"none of the 4 train pictures in {tmp_path / 'tree'} can be read: {path} lists them; the "
        f"first: {path.read_text().splitlines()[0]}"
    )
    assert len(path.read_text().splitlines()) == 4
