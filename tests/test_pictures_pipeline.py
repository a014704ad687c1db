"""Pictures of any size, on the way to batches: image_folder and TFDS's own data sets."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from trees import picture, write, write_tree, xml

from casm_tf.data import crops, damage, datasets, fields, input_pipeline


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An image_folder of 2 x 8 training and 2 x 8 validation pictures; cat_val_0 has two boxes."""
    root = tmp_path_factory.mktemp("pictures")
    write_tree(root / "tree")
    (root / "tree" / "train" / "cat" / "cat_train_0.JPEG").unlink()
    write(root / "tree" / "train" / "cat" / "cat_train_0.png")
    (root / "voc").mkdir()
    boxes = [(10, 10, 50, 30), (0, 0, 20, 40)]
    (root / "voc" / "cat_val_0.xml").write_text(xml(boxes))
    return datasets.open_dataset(
        "image_folder", root / "data", image_dir=root / "tree", boxes=root / "voc", image_size=32
    )


@pytest.fixture(params=["kept", "read anew"])
def either_way(request, monkeypatch):
    """Training pictures that are kept decoded, and ones that are decoded each time."""
    if request.param == "read anew":
        monkeypatch.setattr(input_pipeline, "KEPT_BYTES", 0)


def test_training_batches_are_the_seeds_and_go_on_after_a_skip(tree, either_way):
    def batches(seed, skip, count):
        found = input_pipeline.training_batches(tree, 3, seed, skip, smallest_crop=0.3, flip=True)
        return [(images.numpy(), labels.numpy()) for images, labels in found.take(count)]

    tf.random.set_seed(0)  # as a program does
    straight = batches(0, 0, 16)  # three epochs of sixteen pictures
    for skip in (4, 6, 11):
        for (images, labels), expected in zip(batches(0, skip, 3), straight[skip:], strict=False):
            assert np.array_equal(images, expected[0])
            assert np.array_equal(labels, expected[1])
    assert straight[0][0].shape == (3, 32, 32, 3)
    assert not np.array_equal(batches(1, 0, 1)[0][0], straight[0][0])
    labels = np.concatenate([labels for _, labels in straight])
    assert labels[:16].sum() == labels[16:32].sum() == 8
    assert labels[:16].tolist() != labels[16:32].tolist()


def test_whole_pictures_are_squashed_where_no_crop_is_asked_for(tree, either_way):
    images, _ = next(iter(input_pipeline.training_batches(tree, 16, 0)))
    seen = {tuple(np.round(image[0, 0], 1)) for image in tree.denormalise(images)}
    corners = set()
    for path in sorted(tree.builder.builder_config.image_dir.glob("train/*/*")):
        decoded = tf.io.decode_image(path.read_bytes(), channels=3)
        squashed = tf.image.resize(decoded, (32, 32))[0, 0]
        corners.add(tuple(np.round(squashed.numpy())))
    assert seen == corners


def test_random_views_are_of_the_areas_and_ratios_of_random_resized_crop():
    # The coordinates of each pixel as an image: a crop's spread in them is its size.
    rows, columns = np.meshgrid(np.arange(200), np.arange(250), indexing="ij")
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    data = tf.io.encode_png(image)

    def seen(image_size, flip, count):
        numbers = tf.data.Dataset.range(count)
        return numbers.map(
            lambda number: crops.random_view(data, image_size, 0.3, flip, tf.stack([0, number]))
        ).as_numpy_iterator()

    corners = np.array([image[[0, -1], [0, -1], :2] for image in seen(224, False, 300)])
    sides = corners[:, 1] - corners[:, 0] + 1
    area, ratio = sides.prod(axis=1) / (200 * 250), sides[:, 1] / sides[:, 0]
    assert area.min() >= 0.29
    assert area.max() <= 1
    # Sides that do not fit are drawn again, and these are of large areas.
    assert 0.5 < np.median(area) < 0.65
    assert ratio.min() >= 0.73
    assert ratio.max() <= 1.36
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert corners.min() == 0
    mirrored = [image[0, 0, 1] > image[0, -1, 1] for image in seen(64, True, 100)]
    assert 30 < sum(mirrored) < 70


def test_a_jpegs_view_is_the_part_of_the_decoded_picture():
    image = picture(0, 120, 200)
    views_of = [
        crops.random_view(encode(image), 32, 0.1, True, (1, 2)).numpy()
        for encode in (lambda image: tf.io.encode_jpeg(image, quality=100), tf.io.encode_png)
    ]
    assert np.abs(views_of[0] - views_of[1]).mean() < 2


@pytest.mark.parametrize("quality", [75, 95])
def test_what_is_kept_decoded_is_what_is_decoded_anew(quality):
    image = tf.io.encode_jpeg(picture(0, 117, 201), quality=quality)
    for encoded in (image, tf.io.encode_png(picture(1, 60, 41))):
        kept = tf.io.decode_image(encoded)
        assert int(crops.decoded_bytes(encoded)) == tf.size(kept)
        for number in range(20):
            views = [
                crops.random_view(data, 32, 0.1, True, (1, number)) for data in (encoded, kept)
            ]
            difference = np.abs(views[0] - views[1])
            # At its rim a JPEG's part lacks its neighbours' colours.
            assert difference[1:-1, 1:-1].max() == 0 and difference.mean() < 0.2


def test_evaluation_batches_pad_boxes_and_say_how_many_there_are(tree):
    # 60x40 pixels; the shorter side to 32 is 4/5, and 8 pixels are cut off on either side.
    batches = input_pipeline.evaluation_batches(tree, "test", 20)
    (batch,) = batches  # "test" is called validation here
    assert batch["images"].shape == (16, 32, 32, 3)
    counts = batch["box_counts"].numpy()
    assert sorted(counts) == [0] * 15 + [2]
    boxes = batch["boxes"].numpy()
    assert boxes.shape == (16, 2, 4)
    assert boxes[counts == 2].tolist() == [[[0, 8, 32, 24], [-8, 0, 8, 32]]]
    (batch,) = input_pipeline.evaluation_batches(tree, "validation", 16, "squash")
    boxes = batch["boxes"].numpy()
    assert boxes[counts == 2].tolist() == [[[5, 8, 27, 24], [0, 0, 11, 32]]]


def test_the_centre_crop_is_the_middle_of_the_resized_picture():
    image = picture(3, 80, 120)
    boxes = np.float32([[0, 0, 0.5, 1]])
    seen, moved, _ = crops.evaluation_view(tf.constant(image), boxes, 32, "centre_crop", 40)
    # To 60x40, then 14 and 4 pixels off.
    expected = tf.image.resize(image, (40, 60), antialias=True)[4:36, 14:46]
    assert np.allclose(seen, expected)
    assert moved.numpy().tolist() == [[-14, -4, 46, 16]]
    squashed, moved, _ = crops.evaluation_view(tf.constant(image), boxes, 32, "squash", 40)
    assert np.allclose(squashed, tf.image.resize(image, (32, 32), antialias=True))
    assert moved.numpy().tolist() == [[0, 0, 32, 16]]
    with pytest.raises(ValueError, match="protocol is 'centre_crop' or 'squash'; found 'crop'"):
        crops.evaluation_view(tf.constant(image), boxes, 32, "crop", 40)


def test_a_mask_is_seen_as_its_picture_is():
    image, mask = picture(3, 80, 120), np.zeros((80, 120), bool)
    mask[20:40, 40:80] = True
    boxes = np.float32([[20 / 80, 40 / 120, 40 / 80, 80 / 120]])
    for protocol in crops.PROTOCOLS:
        _, boxes_seen, seen = crops.evaluation_view(
            tf.constant(image), boxes, 32, protocol, 40, tf.constant(mask)
        )
        expected = np.zeros((32, 32), bool)
        ((x0, y0, x1, y1),) = boxes_seen.numpy()
        expected[y0:y1, x0:x1] = True
        # The resized sides may be a pixel off where a box's are rounded otherwise.
        assert seen.dtype == bool
        assert np.mean(seen != expected) <= 0.04
    _, _, seen = crops.evaluation_view(tf.constant(image), boxes, 32, "centre_crop", 40, mask)
    # To 60x40, then 14 and 4 pixels off: rows 10 to 20, columns 20 to 40.
    assert np.argwhere(seen).min(axis=0).tolist() == [6, 6]
    assert np.argwhere(seen).max(axis=0).tolist() == [15, 25]


def test_evaluation_batches_have_the_masks_that_there_are(tmp_path):
    write_tree(tmp_path / "tree", count=2)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1  # not 0 is salient
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "cat_val_0.png"), mask)
    dataset = datasets.open_dataset(
        *("image_folder", tmp_path / "data"),
        **{"image_dir": tmp_path / "tree", "masks": tmp_path / "masks", "image_size": 40},
    )
    (batch,) = input_pipeline.evaluation_batches(dataset, "validation", 4)
    assert sorted(batch["has_mask"].numpy()) == [False, False, False, True]
    masks = batch["masks"].numpy()
    expected = np.zeros((40, 40), bool)
    expected[10:30, 10:30] = True
    assert np.array_equal(masks[batch["has_mask"]][0], expected)
    assert not masks[~batch["has_mask"].numpy()].any()
    images, _ = next(iter(input_pipeline.training_batches(dataset, 2, 0)))  # without the masks
    assert images.shape == (2, 40, 40, 3)


def test_classes_are_chosen_by_range_or_by_name_and_numbered_anew(tmp_path):
    write_tree(tmp_path / "tree", classes=("cat", "dog", "lion"), count=3)
    whole = datasets.open_dataset(
        "image_folder", tmp_path / "data", image_dir=tmp_path / "tree", image_size=32
    )
    (tmp_path / "classes.txt").write_text("lion\n\ndog\n")
    for classes in ("1-2", str(tmp_path / "classes.txt")):
        chosen = datasets.of_classes(whole, classes)
        assert chosen.labels == ("dog", "lion")
        (batch,) = input_pipeline.evaluation_batches(chosen, "validation", 10)
        assert sorted(batch["labels"].numpy()) == [0, 0, 0, 1, 1, 1]
        straight = [y.numpy() for _, y in input_pipeline.training_batches(chosen, 4, 0).take(6)]
        assert sorted(np.concatenate(straight[:3])) == [0] * 6 + [1] * 6
        later = input_pipeline.training_batches(chosen, 4, 0, skip=4).take(2)
        assert np.array_equal([y for _, y in later], straight[4:])
    (tmp_path / "classes.txt").write_text("dog\ntiger")
    for classes, found in ((str(tmp_path / "classes.txt"), "no class 'tiger'"), ("0-3", "of 3")):
        with pytest.raises(ValueError, match=found):
            datasets.of_classes(whole, classes)


# === TFDS's own ===


@pytest.mark.parametrize(
    ("name", "labels", "has_boxes", "has_masks"),
    [
        ("caltech_birds2011", 200, True, True),
        ("stanford_dogs", 120, True, False),
        ("oxford_iiit_pet", 37, False, True),  # the box of a head is not the animal's
        ("imagenet2012", 1000, False, False),
        ("cifar10", 10, False, False),
    ],
)
def test_data_sets_of_tfds_are_read_by_their_own_names(
    name, labels, has_boxes, has_masks, tmp_path, monkeypatch
):
    monkeypatch.setattr(damage, "check_files", lambda builder: None)  # there are none
    with tfds.testing.mock_data(num_examples=3):
        dataset = datasets.open_dataset(name, tmp_path)
        (batch,) = input_pipeline.evaluation_batches(dataset, "test", 3)
    size = 32 if name == "cifar10" else 224
    assert batch["images"].shape == (3, size, size, 3)
    assert len(dataset.labels) == labels
    assert (batch["box_counts"].numpy() > 0).all() == has_boxes
    assert ("masks" in batch) == has_masks


@pytest.mark.parametrize(
    ("name", "salient"), [("caltech_birds2011", [1]), ("oxford_iiit_pet", [0, 2])]
)
def test_what_of_a_mask_is_salient(name, salient, tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "check_files", lambda builder: None)
    with tfds.testing.mock_data(num_examples=1):
        dataset = datasets.open_dataset(name, tmp_path)
    values = [[100], [255], [0]] if name == "caltech_birds2011" else [[1], [2], [3]]
    mask, there = fields.mask(dataset, {"segmentation_mask": tf.constant([values], tf.uint8)})
    assert np.flatnonzero(mask[0]).tolist() == salient
    assert there


def test_xml_files_are_joined_to_a_data_set_by_the_files_names(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "check_files", lambda builder: None)
    (tmp_path / "n01440764_1.xml").write_text(xml([(0, 0, 30, 40)]))
    with tfds.testing.mock_data(num_examples=1):
        dataset = datasets.open_dataset("imagenet2012", tmp_path, boxes=tmp_path)
    for name, expected in (("n01440764_1.JPEG", [[0, 0, 1, 0.5]]), ("n01440764_2.JPEG", [])):
        example = {"image": np.zeros((8, 8, 3), np.uint8), "file_name": name, "label": 0}
        examples = tf.data.Dataset.from_tensors(example)
        (found,) = examples.map(lambda e: fields.boxes(dataset, e)).as_numpy_iterator()
        assert found.tolist() == expected
        assert found.shape[1] == 4


def test_where_objects_are_labelled_the_largest_is_the_pictures(monkeypatch):
    with tfds.testing.mock_data(num_examples=1):
        monkeypatch.setattr(damage, "check_files", lambda builder: None)
        dataset = datasets.open_dataset("voc/2007")
    boxes = np.float32([[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0.5, 0.5, 1, 1]])
    objects = {"bbox": boxes, "label": np.int64([4, 7, 7])}
    none = {"bbox": boxes[:0], "label": np.int64([])}
    pictures = [{"image": np.zeros((8, 8, 3), np.uint8), "objects": o} for o in (none, objects)]
    spec = {
        "image": tf.TensorSpec((8, 8, 3), tf.uint8),
        "objects": {
            "bbox": tf.TensorSpec((None, 4), tf.float32),
            "label": tf.TensorSpec((None,), tf.int64),
        },
    }
    examples = tf.data.Dataset.from_generator(lambda: iter(pictures), output_signature=spec)
    (example,) = fields.labelled(dataset, examples)
    assert int(example["label"]) == 7
    assert fields.boxes(dataset, example).numpy().tolist() == boxes[1:].tolist()
