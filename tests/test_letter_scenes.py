"""letter_scenes: exact boxes, splits that share no shape, scenes that depend on nothing else."""

import collections
import itertools

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from casm_tf.data import datasets, letter_scenes, scenes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    return datasets.open_dataset("letter_scenes/tiny", str(data_dir))


def test_there_are_forty_classes_of_as_many_scenes_each(tiny):
    assert len(tiny.labels) == len(set(tiny.labels)) == 40
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") < set(tiny.labels)
    assert not set("01") & set(tiny.labels)
    for split, count in {"train": 4, "validation": 2, "test": 2}.items():
        examples = tfds.as_numpy(tiny.builder.as_dataset(split=split))
        labels = collections.Counter(int(example["label"]) for example in examples)
        assert labels == dict.fromkeys(range(40), count)


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


def test_no_shape_is_in_two_splits():
    """Glyphs are stretched to one square: DejaVu Sans and its Mono agree there by 0.99."""
    typefaces = letter_scenes._TYPEFACES
    everywhere = [name for names in typefaces.values() for name in names]
    assert len(everywhere) == len(set(everywhere))
    stretched = {
        (name, character): cv2.resize(
            letter_scenes._glyph(name, character), (48, 48), interpolation=cv2.INTER_AREA
        )
        for name in everywhere
        for character in letter_scenes._CHARACTERS
    }

    def agreement(one, other, character):
        both = [stretched[name, character] for name in (one, other)]
        return np.minimum(*both).sum() / np.maximum(*both).sum()

    assert agreement("DejaVuSans", "DejaVuSansMono", "L") > 0.95
    for names, others in itertools.combinations(typefaces.values(), 2):
        for one, other, character in itertools.product(names, others, letter_scenes._CHARACTERS):
            assert agreement(one, other, character) < 0.95, (one, other, character)


def _images(seed, count):
    config = scenes.ScenesConfig(name="any", image_size=32, scenes={"train": count}, seed=seed)
    examples = letter_scenes.LetterScenes(config=config)._generate_examples("train")
    return [example["image"].getvalue() for _, example in examples]


def test_scenes_depend_on_the_seed_and_the_index_alone():
    few = _images(seed=0, count=3)
    assert _images(seed=0, count=5)[:3] == few
    assert not set(_images(seed=1, count=3)) & set(few)


def test_glyphs_are_placed_whole_upright_and_of_the_drawn_size():
    # Dark below, so that a glyph upside down would be found.
    glyph = np.ones((200, 100), np.float32)
    glyph[100:] = 0.6
    for seed in range(100):
        longer = np.random.default_rng(seed).uniform(0.45, 0.75) * 64
        ink = letter_scenes.LetterScenes.placed(glyph, 64, np.random.default_rng(seed))
        assert ink.min() >= 0
        assert ink.max() <= 1
        assert np.sum(ink >= 0.5) == pytest.approx(longer**2 / 2, rel=0.12)
        rows = np.arange(64)
        upper, lower = (
            np.average(rows, weights=part.sum(axis=1))
            for part in (ink > 0.95, (ink > 0.5) & (ink < 0.95))
        )
        assert upper < lower
