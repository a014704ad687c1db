"""Which pictures a tree has, and of which class and split: without looking into a file."""

import os
import re
import unicodedata

import pytest

from casm_tf.data import image_folder, picture_tree


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def flat(root, classes, count, name="{:04}.jpg"):
    names = [name.format(number) for number in range(count)]
    touch(root, *(f"{label}/{name}" for label in classes for name in names))


def split_of(root):
    """{picture: split}."""
    return {
        name: split for split, names in picture_tree.labelled(root)[1].items() for name in names
    }


def test_a_flat_tree_whose_classes_share_their_names_is_split_by_class(tmp_path):
    flat(tmp_path, [f"c{number}" for number in range(20)], 10)
    labels, splits = picture_tree.labelled(tmp_path)
    for names in splits.values():
        assert {name.split("/")[0] for name in names} == set(labels)
    assert sum(map(len, splits.values())) == 200
    assert len({name.split("/")[1] for name in splits["test"]}) > 3  # not of one number alone


@pytest.mark.parametrize("count", [1, 2, 3, 4, 30])
def test_every_class_is_in_every_split_where_it_has_three_pictures(count, tmp_path):
    flat(tmp_path, ["a", "b"], 40)
    flat(tmp_path, ["few"], count)
    found = [split for name, split in split_of(tmp_path).items() if name.startswith("few/")]
    assert len(found) == count
    assert set(found) == ({"train", "validation", "test"} if count >= 3 else {"train"})


def test_a_tenth_is_for_validation_and_a_tenth_for_testing(tmp_path):
    flat(tmp_path, ["a", "b"], 1000)
    sizes = {split: len(names) for split, names in picture_tree.labelled(tmp_path)[1].items()}
    assert abs(sizes["validation"] - 200) < 40 and abs(sizes["test"] - 200) < 40


def test_pictures_that_are_added_leave_the_others_where_they_are(tmp_path):
    flat(tmp_path, ["a", "b"], 60)
    before = split_of(tmp_path)
    flat(tmp_path, ["a", "b", "c"], 60, "later{}.png")
    after = split_of(tmp_path)
    assert before.items() <= after.items()


def test_of_a_small_class_few_others_move_for_a_new_picture(tmp_path):
    flat(tmp_path, ["a", "b"], 5)
    for number in range(20):
        before = split_of(tmp_path)
        touch(tmp_path, f"a/new{number}.jpg")
        after = split_of(tmp_path)
        assert sum(after[name] != split for name, split in before.items()) <= 2


# === A class with a split's name ===


@pytest.mark.parametrize("name", ["train", "val", "test", "validation"])
def test_a_class_may_have_a_splits_name(name, tmp_path):
    flat(tmp_path, [name, "car", "person"], 5)
    labels, splits = picture_tree.labelled(tmp_path)
    assert labels == tuple(sorted([name, "car", "person"]))
    assert sum(map(len, splits.values())) == 15
    assert sum(map(len, picture_tree.unlabelled(tmp_path).values())) == 15


def test_a_split_may_have_a_class_train_and_things_beside_it(tmp_path):
    touch(tmp_path, *(f"{s}/{c}/0.jpg" for s in ("train", "val") for c in ("train", "car")))
    touch(tmp_path, "train/cover.jpg", "notes/0.jpg", "test/0.jpg", "test/1.jpg")
    labels, splits = picture_tree.labelled(tmp_path)
    assert labels == ("car", "train")
    assert {split: len(names) for split, names in splits.items()} == {"train": 2, "validation": 2}


DOUBTFUL = {
    "train/0.jpg val/0.jpg": "/train: expected a folder for each class; found pictures",
    "train/0.jpg val/0.jpg car/0.jpg": "/train: expected a folder for each class; found pictures",
    "val/0.jpg test/0.jpg car/0.jpg": "has test/, val/ without train/: expected both, or classes",
    "val/car/0.jpg val/cat/0.jpg car/0.jpg": "has val/ without train/: expected both, or classes",
    "train/car/0.jpg train/cat/0.jpg car/0.jpg": "has train/ alone",
    "train/a/0.jpg train/b/0.jpg val/0.jpg": "/val: expected a folder for each class; found pict",
    "train/0.jpg": "/train: expected a folder for each class; found pictures",
}


@pytest.mark.parametrize("names", DOUBTFUL)
def test_splits_that_cannot_be_told_from_classes_are_refused(names, tmp_path):
    touch(tmp_path, *names.split())
    with pytest.raises(ValueError, match=re.escape(DOUBTFUL[names])):
        picture_tree.labelled(tmp_path)


def test_without_labels_no_picture_beside_the_splits_is_passed_over(tmp_path):
    touch(tmp_path, "train/0.jpg", "val/deep/er/0.jpg", "test/0.jpg", ".x/0.jpg", "notes/a.txt")
    assert set(picture_tree.unlabelled(tmp_path)) == {"train", "validation", "test"}
    touch(tmp_path, "car/0.jpg")
    with pytest.raises(ValueError, match=r"test/, train/, val/ and a picture beside them, car/0"):
        picture_tree.unlabelled(tmp_path)
    (tmp_path / "car" / "0.jpg").rename(tmp_path / "0.jpg")
    with pytest.raises(ValueError, match=r"and a picture beside them, 0\.jpg: expected all in"):
        picture_tree.unlabelled(tmp_path)
    (tmp_path / "0.jpg").unlink()
    touch(tmp_path, "validation/0.jpg")
    with pytest.raises(ValueError, match="val/ and validation/: expected one"):
        picture_tree.unlabelled(tmp_path)


def test_links_are_followed_and_end(tmp_path):
    touch(tmp_path / "elsewhere", "0.jpg", "deep/1.jpg")
    touch(tmp_path / "tree", "a/2.jpg", "a/3.jpg")
    (tmp_path / "tree" / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "gone.jpg").symlink_to(tmp_path / "nothing")
    found = picture_tree.unlabelled(tmp_path / "tree")["train"]
    every = dict.fromkeys(("a/2.jpg", "a/3.jpg", "a/link/0.jpg", "a/link/deep/1.jpg", "gone.jpg"))
    assert found.keys() < every.keys() and len(found) == 3


# === What is said ===


def test_a_folder_without_pictures_is_told_which_files_are_ones(tmp_path):
    touch(tmp_path, "a/0.heic", "a/0.txt")
    for labels in (None, ("cat", "dog")):
        with pytest.raises(ValueError, match=r"out pictures; exp|has no pictures: exp") as refused:
            image_folder.config(tmp_path, unlabelled_as=labels)
        assert "expected files such as .jpg and .png" in str(refused.value)


def test_two_pictures_of_one_name_are_both_named_where_boxes_are_joined(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "val/cat/0.jpg", "val/cat/0.png")
    touch(tmp_path, "val/dog/3.jpg")
    table = tmp_path / "boxes.csv"
    table.write_text("image,x0,y0,x1,y1\nval/dog/3.jpg,0,0,9,9\n")
    assert len(image_folder.config(tmp_path, boxes=table).boxes) == 1
    table.write_text("image,x0,y0,x1,y1\nval/cat/0.png,0,0,9,9\n")
    with pytest.raises(ValueError, match=r"val/cat/0 fits val/cat/0\.jpg and val/cat/0\.png"):
        image_folder.config(tmp_path, boxes=table)


def test_two_classes_of_one_name_in_other_code_points_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        flat(tmp_path, [unicodedata.normalize(form, "caf\u00e9"), "b"], 3)
    with pytest.raises(ValueError, match="two folders of this name, in NFC and in NFD"):
        picture_tree.labelled(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    flat(tmp_path, ["a", "b"], 3)
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "b" / "linked.jpg").symlink_to(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "b" / "broken.jpg").symlink_to(tmp_path / "none")
    expected = {f"{label}/{number:04}.jpg" for label in "ab" for number in range(3)}
    expected.add("b/broken.jpg")
    found = image_folder.config(tmp_path, unlabelled_as=("a", "b")).pictures
    assert set(split_of(tmp_path)) == {x for names in found.values() for x in names} == expected


def test_a_tree_is_a_folder(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: expected a folder"):
        image_folder.config(tmp_path / "a.jpg")
