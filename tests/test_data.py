"""digit_scenes and the input pipeline."""

import shutil
import socket

import numpy as np
import programs
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from casm_tf.data import crops, datasets, digit_scenes, input_pipeline, scenes


@pytest.fixture(scope="module")
def tiny(tiny_data_dir):
    return datasets.open_dataset("digit_scenes/tiny", str(tiny_data_dir))


def test_scenes_have_the_sizes_of_their_config(tiny):
    splits = tiny.builder.info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {
        "train": 128,
        "validation": 32,
        "test": 32,
    }
    assert tiny.image_size == 32
    assert len(tiny.labels) == 10


def test_boxes_are_tight_round_the_masks(tiny):
    for example in tfds.as_numpy(tiny.builder.as_dataset(split="train")):
        rows, columns = np.nonzero(example["mask"][..., 0])
        ymin, xmin, ymax, xmax = np.round(example["bbox"] * 32).astype(int)
        assert (ymin, xmin, ymax, xmax) == (
            rows.min(),
            columns.min(),
            rows.max() + 1,
            columns.max() + 1,
        )
        assert set(np.unique(example["mask"])) == {0, 255}


def test_digits_and_photographs_are_split_before_scenes_are_made():
    digits = [digit_scenes._digits_of(split, seed=0) for split in digit_scenes._DIGITS]
    assert sum(map(len, digits)) == len(set().union(*digits)) == 1797
    photograph = np.arange(100 * 7).reshape(7, 100)
    strips = [scenes._strip(photograph, *ends) for ends in scenes._STRIPS.values()]
    pixels = [set(strip.flat) for strip in strips]
    assert len(set().union(*pixels)) == sum(map(len, pixels)) == photograph.size


def test_scenes_depend_on_the_seed_and_the_index_alone():
    def files(seed, count):
        config = scenes.ScenesConfig(name="any", image_size=32, scenes={"train": count}, seed=seed)
        examples = digit_scenes.DigitScenes(config=config)._generate_examples("train")
        return [example["image"].getvalue() for _, example in examples]

    few = files(0, 3)
    assert few == files(0, 5)[:3]
    assert not set(few) & set(files(1, 5))


def test_colours_stand_out_from_what_they_cover():
    random = np.random.default_rng(0)
    background = np.full((32, 32, 3), 128, np.uint8)
    digit = np.pad(np.ones((4, 4)), 2)
    for _ in range(50):
        ink = digit_scenes.DigitScenes.placed(digit, 32, random)
        image, mask = scenes.coloured(ink, background, random)
        inner = image[mask].astype(int)
        furthest = np.abs(inner - 128).sum(axis=1).argmax()
        assert np.linalg.norm((inner[furthest] - 128) / 255) > 0.34


def test_normalise_and_back(tiny):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    normalised = tiny.normalise(images)
    by_hand = (images[0, 0, 0] / 255 - tiny.mean) / tiny.std
    assert normalised[0, 0, 0].numpy() == pytest.approx(by_hand, abs=1e-5)
    assert np.array_equal(tiny.denormalise(normalised), images)


def test_training_batches_are_the_seeds_and_go_on_after_a_skip(tiny):
    def labels(seed, skip, count):
        batches = input_pipeline.training_batches(tiny, 16, seed, skip).take(count)
        return [batch[1].numpy().tolist() for batch in batches]

    straight = labels(0, 0, 20)  # more than two epochs of eight batches
    assert labels(0, 0, 20) == straight
    assert labels(0, 11, 9) == straight[11:]
    assert labels(1, 0, 20) != straight
    assert sorted(np.ravel(straight[:8])) == sorted(np.ravel(straight[8:16]))


def test_crops_are_the_seeds_too_and_go_on_after_a_skip(tiny):
    def images(seed, skip, count):
        batches = input_pipeline.training_batches(tiny, 16, seed, skip, smallest_crop=0.5)
        return [batch[0].numpy() for batch in batches.take(count)]

    straight = images(0, 0, 10)
    assert np.array_equal(images(0, 7, 3), straight[7:])
    assert not np.array_equal(images(1, 0, 1), straight[:1])


def test_crops_are_of_the_areas_and_ratios_of_random_resized_crop():
    # The coordinates of each pixel as an image: a crop's spread in them is its size.
    rows, columns = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64), indexing="ij")
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.float32)
    images = tf.constant(image[None].repeat(500, axis=0))
    views = crops.random_views(images, 0.5, seed=(1, 2))
    corners = views.numpy()[:, [0, -1], [0, -1], :2]
    assert corners.min() >= 0
    assert corners.max() <= 1
    sides = corners[:, 1] - corners[:, 0]
    area, ratio = sides.prod(axis=1), sides[:, 1] / sides[:, 0]
    assert area.min() >= 0.5 * 0.86  # a side that ends at the image's takes from the area
    assert area.max() <= 1.0
    assert np.median(area) == pytest.approx(0.75, abs=0.05)
    assert ratio.min() >= 0.749
    assert ratio.max() <= 1.335
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.median(corners[:, 0]) < 0.2  # they begin anywhere that leaves room


def test_evaluation_batches_have_every_image_once_and_boxes_in_pixels(tiny):
    batches = list(input_pipeline.evaluation_batches(tiny, "test", 20))
    assert [len(batch["labels"]) for batch in batches] == [20, 12]
    parts = [input_pipeline.evaluation_batches(tiny, "test", 20, part=(n, 3)) for n in range(3)]
    labels = [label for part in parts for batch in part for label in batch["labels"].numpy()]
    assert labels == [label for batch in batches for label in batch["labels"].numpy()]
    (third,) = input_pipeline.evaluation_batches(tiny, "test", 20, every=3)
    assert third["labels"].numpy().tolist() == labels[::3]
    example = next(iter(tfds.as_numpy(tiny.builder.as_dataset(split="test"))))
    ymin, xmin, ymax, xmax = np.round(example["bbox"] * 32).astype(int)
    assert batches[0]["boxes"][0].numpy().tolist() == [[xmin, ymin, xmax, ymax]]
    assert batches[0]["images"].shape == (20, 32, 32, 3)


def test_workers_take_their_parts_of_the_same_training_batches(tiny):
    def first_two(part=(0, 1)):
        batches = input_pipeline.training_batches(tiny, 12, 5, 1, 0.5, True, part)
        images, labels = zip(*batches.take(2).as_numpy_iterator(), strict=True)
        return np.stack(images), np.stack(labels)

    images, labels = first_two()
    for worker in range(3):
        mine = slice(4 * worker, 4 * worker + 4)
        found, of_found = first_two((worker, 3))
        assert np.array_equal(found, images[:, mine])
        assert np.array_equal(of_found, labels[:, mine])


def test_the_names_of_a_batch_are_those_of_its_pictures(tiny):
    batches = input_pipeline.training_batches(tiny, 50, seed=3, skip=2)  # in the second epoch
    expected = [labels.tolist() for _, labels in batches.take(2).as_numpy_iterator()]
    names = [input_pipeline.names_of_batch(tiny, 50, 3, number) for number in (3, 4)]
    read = tfds.ReadConfig(add_tfds_id=True)
    examples = tfds.as_numpy(tiny.builder.as_dataset(split="train", read_config=read))
    label_of = {example["tfds_id"].decode(): example["label"] for example in examples}
    assert [[label_of[name] for name in batch] for batch in names] == expected
    assert len(set(names[0][:28])) == 28  # 128 pictures an epoch


def test_data_that_are_there_are_not_locked(tiny_data_dir, tmp_path):
    data = tmp_path / "digit_scenes" / "tiny"  # as on a disk that is read-only
    shutil.copytree(tiny_data_dir / "digit_scenes" / "tiny" / "1.0.0", data / "1.0.0")
    datasets.open_dataset("digit_scenes/tiny", str(tmp_path))
    assert [path.name for path in data.iterdir()] == ["1.0.0"]


def test_two_processes_at_once_make_the_data_once(tmp_path):
    said = [{"stdout": tmp_path / name, "stderr": tmp_path / name} for name in ("one", "two")]
    given = (datasets.open_dataset, "digit_scenes/tiny", str(tmp_path / "data"))
    for process, files in [(programs.start(*given, **files), files) for files in said]:
        assert process.wait() == 0, files["stdout"].read_text()
    # The one that makes them says so.
    assert sorted("downloaded and prepared" in files["stdout"].read_text() for files in said) == [
        False,
        True,
    ]


def test_without_a_network_a_data_set_is_refused_in_seconds(tmp_path, monkeypatch):
    assert datasets.downloader.MAX_RETRIES == 3
    monkeypatch.setattr(datasets.downloader, "MAX_RETRIES", 0)

    def no_name(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    monkeypatch.setenv("NO_PROXY", "*")
    expected = r"'imagenette' cannot be downloaded from https://.*\.tgz \(no network\?\)"
    with pytest.raises(datasets.NoSuchDataError, match=expected):
        datasets.open_dataset("imagenette", str(tmp_path))
