"""Your own pictures: what is read, what is left out, and how boxes and masks find their picture."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from trees import encoded, picture, write, write_tree, xml

from casm_tf.data import image_folder, pictures


def examples(root, data_dir, **beside):
    """{split: {file's name: example}} of a tree."""
    builder = image_folder.prepared(image_folder.config(root, **beside), data_dir)
    return {
        split: {
            example["file_name"].decode(): example
            for example in tfds.as_numpy(builder.as_dataset(split=split))
        }
        for split in builder.info.splits
    }


def test_a_tree_with_boxes_from_xml_and_masks(tmp_path):
    write_tree(tmp_path / "tree")
    voc, masks = tmp_path / "voc", tmp_path / "masks"
    (voc / "val").mkdir(parents=True)
    (voc / "val" / "cat_val_0.xml").write_text(xml([(6, 4, 30, 20), (30, 4, 6, 20)]))
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[4:20, 6:30] = 1
    write(masks / "cat_val_0.png", mask)
    found = examples(tmp_path / "tree", tmp_path / "data", boxes=voc, masks=masks)
    assert {split: len(of_split) for split, of_split in found.items()} == {
        "train": 16,
        "validation": 16,
    }
    example = found["validation"]["val/cat/cat_val_0.JPEG"]
    assert example["bbox"] == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.5]]))
    assert example["masks"].shape == (1, 40, 60, 1)
    assert np.array_equal(example["masks"][0, ..., 0] == 255, mask[..., 0] == 1)
    other = found["validation"]["val/dog/dog_val_3.JPEG"]
    assert other["label"] == 1
    assert other["image"].shape == (43, 57, 3)
    assert other["bbox"].shape == (0, 4)
    assert len(other["masks"]) == 0
    skipped = next((tmp_path / "data").rglob("skipped.txt")).read_text()
    assert skipped == "val/cat/cat_val_0.JPEG: 1 boxes left out: inverted, empty or outside\n"


def test_korean_names_and_boxes_from_a_table(tmp_path):
    write_tree(tmp_path / "동물", splits=("",), classes=("강아지", "고양이"), count=40)
    rows = ("고양이/고양이__3.JPEG,0,0,57,43", "고양이__4,0,0,28,44", "고양이__4,28,22,56,44")
    table = tmp_path / "상자.csv"
    table.write_text("\n".join(["image,x0,y0,x1,y1", *rows]), encoding="utf-8")
    found = examples(tmp_path / "동물", tmp_path / "자료", boxes=table)
    assert set(found) == {"train", "validation", "test"}
    assert sum(map(len, found.values())) == 80
    assert len(found["train"]) > 50
    every = {name: example for of_split in found.values() for name, example in of_split.items()}
    assert every["고양이/고양이__3.JPEG"]["bbox"].tolist() == [[0, 0, 1, 1]]
    assert every["고양이/고양이__4.JPEG"]["bbox"].tolist() == [[0, 0, 1, 0.5], [0.5, 0.5, 1, 1]]
    assert every["강아지/강아지__3.JPEG"]["bbox"].shape == (0, 4)
    assert every["강아지/강아지__3.JPEG"]["label"] == 0


def test_boxes_of_a_table_are_of_the_picture_as_its_exif_turns_it(tmp_path):
    write_tree(tmp_path / "tree", count=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    name = tmp_path / "tree" / "val" / "cat" / "cat_val_0.JPEG"
    name.write_bytes(encoded(picture(), exif=exif))  # 40 x 60 when it is turned
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\ncat_val_0,4,6,20,30\n")
    found = examples(tmp_path / "tree", tmp_path / "data", boxes=tmp_path / "boxes.csv")
    example = found["validation"]["val/cat/cat_val_0.JPEG"]
    assert example["image"].shape == (60, 40, 3)
    assert example["bbox"] == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.5]]))


@pytest.mark.parametrize("bad", [1, 2])
def test_more_than_one_in_a_hundred_bad_files_is_an_error_with_a_list(bad, tmp_path):
    write_tree(tmp_path / "tree", count=25)  # 100 pictures
    names = ["train/cat/cat_train_3.JPEG", "val/dog/dog_val_7.JPEG"][:bad]
    for name in names:
        (tmp_path / "tree" / name).write_bytes(b"no picture")
    tree = image_folder.config(tmp_path / "tree")
    if bad == 1:
        builder = image_folder.prepared(tree, tmp_path / "data")
        assert builder.info.splits["train"].num_examples == 49
    else:
        with pytest.raises(ValueError, match=r"2 of 100 .* more than 1%: .*skipped.txt lists"):
            image_folder.prepared(tree, tmp_path / "data")
        assert not list((tmp_path / "data").rglob("*tfrecord*"))
    lines = next((tmp_path / "data").rglob("skipped.txt")).read_text().splitlines()
    assert [line.split(": ")[0] for line in lines] == names


def test_what_was_prepared_is_read_again_and_a_half_of_it_made_anew(tmp_path, monkeypatch):
    write_tree(tmp_path / "tree")
    tree = image_folder.config(tmp_path / "tree")
    builder = image_folder.prepared(tree, tmp_path / "data")
    directory = pathlib.Path(builder.data_dir)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "read", None)  # nothing is read twice
        again = image_folder.prepared(image_folder.config(tmp_path / "tree"), tmp_path / "data")
    assert again.info.splits["train"].num_examples == 16
    half = directory.rename(directory.with_name("incomplete.ABC_1.0.0"))
    assert image_folder.prepared(tree, tmp_path / "data").info.splits["train"].num_examples == 16
    assert not half.exists()
    write(tmp_path / "tree" / "train" / "cat" / "new.png")
    more = image_folder.prepared(image_folder.config(tmp_path / "tree"), tmp_path / "data")
    assert more.info.splits["train"].num_examples == 17


def test_a_preparation_that_was_broken_off_decodes_only_what_is_left(tmp_path, monkeypatch):
    write_tree(tmp_path / "tree")
    tree = image_folder.config(tmp_path / "tree")
    monkeypatch.setattr(image_folder, "_AT_ONCE", 4)
    read, seen = pictures.read, []

    def killed_after_eleven(path):
        seen.append(path.name)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(pictures, "read", killed_after_eleven)
    with pytest.raises(KeyboardInterrupt):
        image_folder.prepared(tree, tmp_path / "data")
    (journal,) = (tmp_path / "data").rglob("*.good")
    first = {json.loads(line)[0].split("/")[-1] for line in journal.read_text().splitlines()}
    assert 8 <= len(first) <= 12  # the first two groups of four, and what was done of the third
    with journal.open("a") as file:
        file.write('["train/cat/cat_tr')  # the process may have died in the middle of a line

    monkeypatch.setattr(pictures, "read", lambda path: seen.append(path.name) or read(path))
    del seen[:]
    resumed = examples(tmp_path / "tree", tmp_path / "data")
    assert not set(seen) & first
    assert len(seen) == 32 - len(first)
    assert not list((tmp_path / "data").rglob("*.good"))
    anew = examples(tmp_path / "tree", tmp_path / "other")
    for split, found in anew.items():
        assert found.keys() == resumed[split].keys()
        for name, example in found.items():
            assert np.array_equal(example["image"], resumed[split][name]["image"])
            assert example["label"] == resumed[split][name]["label"]


def _without_pictures(root):
    (root / "train" / "empty").mkdir()
    (root / "train" / "empty" / "notes.txt").write_text("none")


def _without_val(root):
    (root / "val").rename(root / ".val")


def _flat_val(root):
    for folder in (root / "val").iterdir():
        folder.rename(root / folder.name)


def _class_of_val_alone(root):
    (root / "val" / "cat").rename(root / "val" / "lion")


def _one_class(root):
    (root / "train" / "dog").rename(root / "dog")
    (root / "val" / "dog").rename(root / "dogs")


def _nothing(root):
    root.rename(root.with_name("elsewhere"))


WRONG_TREES = {
    _without_pictures: "train/empty: a class folder without pictures",
    _without_val: "train/ alone: expected val/",
    _flat_val: "val: expected a folder for each class",
    _class_of_val_alone: "val/lion: there is no lion in train/",
    _one_class: "at least two class folders",
    _nothing: "there is no ",
}


@pytest.mark.parametrize("harm", WRONG_TREES, ids=lambda harm: harm.__name__)
def test_a_wrong_tree_is_refused_by_name(harm, tmp_path):
    write_tree(tmp_path / "tree", count=1)
    harm(tmp_path / "tree")
    with pytest.raises(ValueError, match=WRONG_TREES[harm]):
        image_folder.config(tmp_path / "tree")


def test_a_tree_without_splits_needs_pictures_for_each(tmp_path):
    write_tree(tmp_path / "tree", splits=("",), count=1)
    with pytest.raises(ValueError, match="too few pictures"):
        image_folder.config(tmp_path / "tree")


def test_boxes_of_no_picture_are_refused(tmp_path):
    write_tree(tmp_path / "tree", count=1)
    (tmp_path / "voc").mkdir()
    with pytest.raises(ValueError, match=r"voc has no \.xml files"):
        image_folder.config(tmp_path / "tree", boxes=tmp_path / "voc")
    (tmp_path / "voc" / "lion.xml").write_text(xml([]))
    with pytest.raises(ValueError, match="no boxes of a picture"):
        image_folder.config(tmp_path / "tree", boxes=tmp_path / "voc")


def test_a_split_without_a_good_picture_is_an_error_with_a_list(tmp_path):
    write_tree(tmp_path / "tree", ("train",), count=50)
    write_tree(tmp_path / "tree", ("val",), ("cat",), count=1)  # fewer than one in a hundred
    (tmp_path / "tree" / "val" / "cat" / "cat_val_0.JPEG").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"none of the 1 validation pictures in .* can be read"):
        image_folder.prepared(image_folder.config(tmp_path / "tree"), tmp_path / "data")
    (path,) = tmp_path.rglob("skipped.txt")
    assert path.read_text().startswith("val/cat/cat_val_0.JPEG: ")


# === Pictures without labels ===


def test_any_folder_is_a_data_set_where_no_labels_are_needed(tmp_path):
    root = tmp_path / "holiday"
    for number in range(18):
        write(root / ("beach" if number % 3 else ".") / f"{number}.jpg", picture(number))
    write(root / ".hidden" / "0.jpg")
    (root / "notes.txt").write_text("no picture")
    found = examples(root, tmp_path / "data", unlabelled_as=("cat", "dog"))
    assert {split: len(some) for split, some in found.items()} == {
        "train": 16,
        "validation": 1,
        "test": 1,
    }
    names = [name for some in found.values() for name in some]
    assert sorted(names) == sorted(f"beach/{n}.jpg" if n % 3 else f"{n}.jpg" for n in range(18))
    assert {int(example["label"]) for some in found.values() for example in some.values()} == {-1}


def test_splits_that_a_folder_has_are_kept_without_labels_too(tmp_path):
    write_tree(tmp_path / "tree", count=3)
    config = image_folder.config(tmp_path / "tree", unlabelled_as=("cat", "dog"))
    assert {split: len(names) for split, names in config.pictures.items()} == {
        "train": 6,
        "validation": 6,
    }
    assert config.name != image_folder.config(tmp_path / "tree").name


def test_too_few_pictures_for_three_splits_are_refused(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.jpg")
    with pytest.raises(ValueError, match="too few pictures: none is left for 'train'"):
        image_folder.config(tmp_path, unlabelled_as=("cat", "dog"))


def test_unlabelled_pictures_take_the_boxes_of_any_object(tmp_path):
    for number in range(3):
        write(tmp_path / "pictures" / f"{number}.jpg")
        path = tmp_path / "boxes" / f"{number}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(xml([(6, 4, 30, 20)], name="anything"))
    found = examples(
        tmp_path / "pictures", tmp_path / "data", boxes=tmp_path / "boxes", unlabelled_as=("a", "b")
    )
    for some in found.values():
        for example in some.values():
            assert example["bbox"] == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.5]]))
