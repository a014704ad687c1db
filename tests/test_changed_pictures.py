"""What a prepared data set was made of: other pictures, boxes or masks make another one."""

import itertools
import os
import shutil
import unicodedata

import numpy as np
import pytest
import tensorflow_datasets as tfds
from trees import picture, write, xml

from casm_tf.data import datasets, image_folder, pictures

BLACK, WHITE = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)


def tree_of(root, image):
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            for number in range(2):
                write(root / split / label / f"{number}.png", image)
    return root


def seen(root, data_dir, **beside):
    """{picture: example} of all splits."""
    builder = image_folder.prepared(image_folder.config(root, **beside), data_dir)
    return {
        example["file_name"].decode(): example
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }


def values(root, data_dir):
    return {int(example["image"].mean()) for example in seen(root, data_dir).values()}


def test_two_trees_of_the_same_names_are_two_data_sets(tmp_path):
    black = tree_of(tmp_path / "v1" / "images", BLACK)
    white = tmp_path / "v2" / "images"
    shutil.copytree(black, white)
    sizes = {path.name: path.stat() for path in black.rglob("*.png")}
    for path in white.rglob("*.png"):  # as long, and of the same time
        write(path, WHITE)
        path.write_bytes(path.read_bytes().ljust(sizes[path.name].st_size, b"\0"))
        os.utime(path, ns=(sizes[path.name].st_mtime_ns,) * 2)
    data = tmp_path / "data"
    assert [values(root, data) for root in (black, white, black)] == [{0}, {255}, {0}]
    (tmp_path / "now").symlink_to(black)  # a name for the same tree
    assert values(tmp_path / "now", data) == {0}
    assert len(list(data.glob("image_folder/*"))) == 2
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to(white)
    assert values(tmp_path / "now", data) == {255}


def _replaced(root):
    old = root / "tree" / "val" / "cat" / "0.png"
    size = old.stat().st_size
    write(old, WHITE)
    old.write_bytes(old.read_bytes().ljust(size, b"\0"))


def _swapped(root):
    cat, dog = (root / "tree" / "train" / label / "0.png" for label in ("cat", "dog"))
    write(dog, WHITE)
    cat.rename(root / "cat.png")
    dog.rename(cat)
    (root / "cat.png").rename(dog)


def _mask_changed(root):
    write(root / "masks" / "val" / "dog" / "1.png", BLACK)


def _xml_edited(root):
    (root / "xml" / "val" / "cat" / "0.xml").write_text(xml([(4, 4, 30, 30)], size=(40, 40)))


def _csv_edited(root):
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\nval/cat/0.png,4,4,30,30\n")


def _touched(root):
    os.utime(root / "tree" / "val" / "cat" / "0.png", ns=(1, 1))


CHANGES = [_replaced, _swapped, _mask_changed, _xml_edited, _csv_edited, _touched]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_file_makes_the_data_set_anew(change, tmp_path):
    root = tree_of(tmp_path / "tree", BLACK)
    write(tmp_path / "masks" / "val" / "dog" / "1.png", WHITE)
    (tmp_path / "xml" / "val" / "cat").mkdir(parents=True)
    path = tmp_path / "xml" / "val" / "cat" / "0.xml"
    path.write_text(xml([(0, 0, 20, 20)], size=(40, 40)))
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\nval/cat/0.png,0,0,20,20\n")
    boxes = tmp_path / ("boxes.csv" if change is _csv_edited else "xml")
    beside = {"boxes": boxes, "masks": tmp_path / "masks"}
    before = image_folder.config(root, **beside).name
    assert image_folder.config(root, **beside).name == before
    change(tmp_path)
    assert image_folder.config(root, **beside).name != before


@pytest.mark.parametrize("which", ["train/dog/1.png", "val.xml"])
def test_a_file_that_changes_before_it_is_read_is_refused_by_name(which, tmp_path, monkeypatch):
    root = tree_of(tmp_path / "tree", BLACK)
    path = root / "boxes" / "val" / "cat" / "0.xml"
    path.parent.mkdir(parents=True)
    path.write_text(xml([(0, 0, 20, 20)], size=(40, 40)))
    config = image_folder.config(root, boxes=root / "boxes")
    changed = path if which == "val.xml" else root / which
    trigger = root / "val" / "cat" / "0.png" if which == "val.xml" else changed
    read = pictures.read

    def changing(path_):
        if path_ == trigger:
            changed.write_bytes(changed.read_bytes() + b"\n")
        return read(path_)

    monkeypatch.setattr(pictures, "read", changing)
    with pytest.raises(ValueError, match=f"{changed} was changed in the meantime"):
        image_folder.prepared(config, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.tfrecord*"))
    monkeypatch.undo()
    assert len(seen(root, tmp_path / "data", boxes=root / "boxes")) == 8


def test_a_file_that_goes_before_it_is_read_is_refused_by_name(tmp_path):
    root = tree_of(tmp_path / "tree", picture(0))
    config = image_folder.config(root)
    gone = config.image_dir / "train" / "cat" / "1.png"
    gone.unlink()
    with pytest.raises(ValueError, match=f"{gone} was changed in the meantime"):
        image_folder.prepared(config, tmp_path / "data")


def test_a_copy_whose_names_are_in_other_code_points_is_the_same(tmp_path):
    found = []
    for form in ("NFC", "NFD"):  # Linux's and macOS's; their orders differ
        root = tmp_path / form
        for number, name in enumerate(("\u00e9", "f", "z", "\uac15")):
            for split, label in itertools.product(("train", "val"), ("\u00e9", "f")):
                path = f"{split}/{label}/{name}.png"
                write(root / unicodedata.normalize(form, path), picture(number))
        builder = image_folder.prepared(image_folder.config(root), tmp_path / "data")
        (root / "train").rename(root / "one")
        (root / "val").rename(root / "two")
        names = image_folder.config(root, unlabelled_as=("a", "b")).pictures
        splits = [{unicodedata.normalize("NFC", x) for x in some} for some in names.values()]
        sums = [builder.info.metadata[f"{split}_sha256"] for split in ("train", "validation")]
        found.append((builder.builder_config.labels, sums, splits))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["x" * 255, "\uac15" * 85])
def test_a_tree_may_have_the_longest_name(name, tmp_path):
    root = tree_of(tmp_path / name, BLACK)
    assert len(seen(root, tmp_path / "data")) == 8


def test_a_data_set_that_does_not_say_of_what_it_was_made_is_refused_by_name(tmp_path):
    root = tree_of(tmp_path / "tree", BLACK)
    config = image_folder.config(root)
    builder = image_folder.prepared(config, tmp_path / "data")
    (builder.data_path / "metadata.json").unlink()
    with pytest.raises(ValueError, match=r"1\.0\.0/metadata\.json is damaged: delete that "):
        datasets.open_dataset("image_folder", tmp_path / "data", image_dir=root)
