"""Your own pictures: what is read, what is left out, and how boxes and masks find their picture."""

import io
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from trees import picture, write, write_tree, xml

from casm_tf.data import annotations, image_folder, pictures


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


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


# === Single files ===

RGB = picture()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
PALETTE = Image.fromarray(RGB).quantize(64)
COLOURS = np.asarray(PALETTE.convert("RGB"))
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned to the right by a quarter

READ_RIGHTLY = {
    "RGB JPEG": (saved(Image.fromarray(RGB), format="JPEG", quality=95), RGB),
    "RGB PNG": (saved(Image.fromarray(RGB), format="PNG"), RGB),
    "grey JPEG": (saved(Image.fromarray(GREY), format="JPEG", quality=95), GREY),
    "grey PNG": (saved(Image.fromarray(GREY), format="PNG"), GREY),
    "CMYK": (saved(Image.fromarray(RGB).convert("CMYK"), format="JPEG", quality=95), RGB),
    "palette": (saved(PALETTE, format="PNG"), COLOURS),
    "16 bits": (saved(Image.fromarray(GREY.astype(np.uint16) * 257), format="PNG"), GREY),
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
    is_kept = kind in ("RGB JPEG", "RGB PNG", "grey JPEG", "grey PNG")
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


# === Boxes ===


def test_boxes_are_clipped_and_those_without_an_area_left_out():
    boxes = annotations.shares(
        [
            (6, 4, 30, 20),  # inside: 0.1, 0.1, 0.5, 0.5
            (-6, 20, 30, 60),  # partly outside: 0, 0.5, 0.5, 1
            (30, 20, 6, 4),  # inverted
            (60, 0, 90, 40),  # outside, along the border
            (6, 4, 6, 20),  # a line
        ],
        size=(60, 40),
    )
    found, left_out = annotations.clipped(boxes)
    assert found == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.5], [0, 0.5, 0.5, 1]]))
    assert left_out == 3
    assert annotations.clipped(annotations.shares([], (60, 40)))[0].shape == (0, 4)


def test_xml_is_in_its_own_size_or_without_one_in_the_pictures(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(xml([(10, 10, 50, 20)], size=(100, 50)))
    assert annotations.read_xml(path, "cat", (60, 40)) == pytest.approx(
        np.array([[0.1, 0.2, 0.5, 0.4]])
    )
    for size in (None, (0, 0)):
        path.write_text(xml([(6, 4, 30, 20)], size=size))
        assert annotations.read_xml(path, "cat", (60, 40)) == pytest.approx(
            np.array([[0.1, 0.1, 0.5, 0.5]])
        )


def test_xml_gives_the_class_own_boxes_or_all_where_it_names_none(tmp_path):
    one, other = xml([(0, 0, 30, 40)]), xml([(0, 0, 60, 20)], name="dog")
    path = tmp_path / "a.xml"
    path.write_text(one.replace("</annotation>", "") + other.replace("<annotation>", ""))
    assert annotations.read_xml(path, "cat", (60, 40)).tolist() == [[0, 0, 0.5, 1]]
    assert annotations.read_xml(path, "bird", (60, 40)).shape == (2, 4)


ENTITIES = '<!DOCTYPE a [<!ENTITY b "{}">]>' + xml([(0, 0, 30, 40)], name="&b;")
BAD_XML = {
    "entities": ENTITIES.format("cat" * 1000).encode(),
    "entities in UTF-16": ENTITIES.format("cat").encode("utf-16"),
    "cut off": xml([(0, 0, 30, 40)]).encode()[:-20],
    "no number": xml([("a", 0, 30, 40)]).encode(),
    "not finite": xml([("nan", 0, 30, 40)]).encode(),
    "three sides": xml([(0, 0, 30, 40)]).replace("ymin", "min").encode(),
    "size in words": xml([(0, 0, 30, 40)], size=("a", "b")).encode(),
    "before the rotation": xml([(0, 0, 30, 40)], size=(40, 60)).encode(),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_xml_that_is_not_safe_or_not_right_is_refused_by_name(kind, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(BAD_XML[kind])
    with pytest.raises(ValueError, match=r"a\.xml: "):
        annotations.read_xml(path, "cat", (60, 40), size_before=(40, 60))


def test_annotations_belong_to_the_picture_they_have_most_in_common_with():
    names = ["train/cat/1", "val/cat/1", "val/dog/1", "val/dog/2"]
    assert annotations.join(names, ["2", "3"]) == {"val/dog/2": "2"}
    assert annotations.join(names, ["dog/1"]) == {"val/dog/1": "dog/1"}
    assert annotations.join(names, ["train/cat/1", "CLS-LOC/val/2"]) == {
        "train/cat/1": "train/cat/1",
        "val/dog/2": "CLS-LOC/val/2",
    }
    with pytest.raises(ValueError, match="1 fits train/cat/1 and val/cat/1"):
        annotations.join(names, ["1"])
    with pytest.raises(ValueError, match="val/dog/2 fits a/2 and b/2"):
        annotations.join(names, ["a/2", "b/2"])


BAD_TABLES = {
    "other columns": "image,x,y,w,h\n",
    "nothing": "",
    "four columns": "image,x0,y0,x1,y1\na.jpg,1,2,3\n",
    "a word": "image,x0,y0,x1,y1\na.jpg,1,2,3,b\n",
    "not finite": "image,x0,y0,x1,y1\na.jpg,1,2,3,inf\n",
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_wrong_table_is_refused_by_name(kind, tmp_path):
    (tmp_path / "boxes.csv").write_text(BAD_TABLES[kind])
    with pytest.raises(ValueError, match=r"boxes\.csv"):
        annotations.read_table(tmp_path / "boxes.csv")
    (tmp_path / "boxes.csv").write_bytes("image,x0,y0,x1,y1\n고양이,1,2,3,4\n".encode("euc-kr"))
    with pytest.raises(ValueError, match="UTF-8"):
        annotations.read_table(tmp_path / "boxes.csv")


# === Trees ===


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
    assert skipped == "val/cat/cat_val_0.JPEG: 1 boxes left out: inverted, or wholly outside\n"


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


@pytest.mark.parametrize("bad", [1, 2])
def test_more_than_one_in_a_hundred_bad_files_is_an_error_with_a_list(bad, tmp_path):
    write_tree(tmp_path / "tree", count=25)  # 100 pictures
    names = ["train/cat/cat_train_3.JPEG", "val/dog/dog_val_7.JPEG"][:bad]
    for name in names:
        (tmp_path / "tree" / name).write_bytes(BAD["cut off"])
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
    changed = next(path for path in tree.image_dir.rglob("*.JPEG") if path.name in first)
    write(changed, picture(9, 33, 44))

    monkeypatch.setattr(pictures, "read", lambda path: seen.append(path.name) or read(path))
    del seen[:]
    resumed = examples(tmp_path / "tree", tmp_path / "data")
    assert set(seen) & first == {changed.name}
    assert len(seen) == 32 - len(first) + 1
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
    (tmp_path / "tree" / "val" / "cat" / "cat_val_0.JPEG").write_bytes(BAD["cut off"])
    with pytest.raises(ValueError, match=r"none of the validation pictures in .* can be read"):
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
