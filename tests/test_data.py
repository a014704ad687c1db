"""digit_scenes and the input pipeline."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from casm_tf.data import digit_scenes, input_pipeline


@pytest.fixture(scope="module")
def tiny(tiny_data_dir):
    return input_pipeline.open_dataset("digit_scenes/tiny", str(tiny_data_dir))


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
    digits = [range(*part.indices(1797)) for part in digit_scenes._DIGITS.values()]
    assert sum(map(len, digits)) == len(set().union(*digits)) == 1797
    photograph = np.arange(100 * 7).reshape(7, 100)
    strips = [digit_scenes._strip(photograph, *ends) for ends in digit_scenes._STRIPS.values()]
    pixels = [set(strip.flat) for strip in strips]
    assert len(set().union(*pixels)) == sum(map(len, pixels)) == photograph.size


def test_scenes_depend_on_the_seed_and_the_index_alone():
    builder_config = digit_scenes.DigitScenes.builder_configs["tiny"]

    class Generator:
        def __init__(self, seed, scenes):
            self.builder_config = digit_scenes.DigitScenesConfig(
                name="any", image_size=32, scenes=scenes, seed=seed
            )

        def files(self, split):
            examples = digit_scenes.DigitScenes._generate_examples(self, split)
            return [example["image"].getvalue() for _, example in examples]

    few = Generator(builder_config.seed, {"train": 3}).files("train")
    more = Generator(builder_config.seed, {"train": 5}).files("train")
    other = Generator(builder_config.seed + 1, {"train": 3}).files("train")
    assert few == more[:3]
    assert not set(few) & set(other)


def test_colours_stand_out_from_what_they_cover():
    random = np.random.default_rng(0)
    background = np.full((32, 32, 3), 128, np.uint8)
    digit = np.pad(np.ones((4, 4)), 2)
    for _ in range(50):
        image, mask = digit_scenes._paste(digit, background, random)
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


def test_evaluation_batches_have_every_image_once_and_boxes_in_pixels(tiny):
    batches = list(input_pipeline.evaluation_batches(tiny, "test", 20))
    assert [len(batch["labels"]) for batch in batches] == [20, 12]
    example = next(iter(tfds.as_numpy(tiny.builder.as_dataset(split="test"))))
    ymin, xmin, ymax, xmax = np.round(example["bbox"] * 32).astype(int)
    assert batches[0]["boxes"][0].numpy().tolist() == [[xmin, ymin, xmax, ymax]]
    assert batches[0]["images"].shape == (20, 32, 32, 3)
