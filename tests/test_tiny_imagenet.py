"""casm_tf.data.tiny_imagenet: two classes in its own layout, in TFDS's folder for what is there."""

import numpy as np
import pytest
import trees

from casm_tf.data import datasets, input_pipeline, tiny_imagenet

CLASSES = [["n01443537", "goldfish"], ["n01629819", "European fire salamander"]]


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "_CLASSES", CLASSES)
    root = tmp_path / "downloads" / "manual" / "tiny-imagenet-200"
    for wnid, _ in CLASSES:
        for number in range(2):
            trees.write(
                root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG",
                trees.picture(number, 64, 64),
            )
        lines = f"{wnid}_0.JPEG\t0\t10\t63\t58\n{wnid}_1.JPEG\t5\t6\t5\t6\n"
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(lines)
    trees.write(root / "val" / "images" / "val_0.JPEG", trees.picture(9, 64, 64))
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01629819\t0\t32\t44\t62\n")
    return tmp_path


def test_labels_and_boxes_are_those_of_the_files(data_dir):
    dataset = datasets.open_dataset("tiny_imagenet", data_dir)
    assert dataset.labels == ("goldfish", "European fire salamander")
    assert dataset.image_size == 64
    splits = dataset.builder.info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {
        "train": 4,
        "validation": 1,
    }
    found = {
        example["file_name"].decode(): (example["label"], (64 * example["bbox"]).tolist())
        for example in dataset.builder.as_dataset("train").as_numpy_iterator()
    }
    # ymin, xmin, ymax, xmax: the corners are pixels of the box.
    assert found["n01443537_0.JPEG"] == (0, [[10, 0, 59, 64]])
    assert found["n01629819_1.JPEG"] == (1, [[6, 5, 7, 6]])
    # Its test pictures have no labels: what is scored is the validation split.
    (batch,) = input_pipeline.evaluation_batches(dataset, "test", 8)
    assert batch["labels"].numpy().tolist() == [1]
    assert batch["boxes"].numpy().tolist() == [[[0, 32, 45, 63]]]


def test_classes_are_chosen_by_name_or_by_number_of_wordnet(data_dir):
    dataset = datasets.open_dataset("tiny_imagenet", data_dir)
    for lines in ("n01629819\nn01443537\n", "goldfish\nn01629819\n"):
        (data_dir / "classes").write_text(lines)
        chosen = datasets.of_classes(dataset, str(data_dir / "classes"))
        assert chosen.labels == dataset.labels
    (data_dir / "classes").write_text("n01443537\nn02129165\n")
    with pytest.raises(ValueError, match="there is no class 'n02129165'"):
        datasets.of_classes(dataset, str(data_dir / "classes"))


def test_the_list_has_200_classes_in_the_order_of_their_numbers():
    wnids, names = zip(*tiny_imagenet._CLASSES, strict=True)
    assert len(set(wnids)) == len(set(names)) == 200
    assert list(wnids) == sorted(wnids)
    assert np.all([len(wnid) == 9 and wnid[0] == "n" for wnid in wnids])
