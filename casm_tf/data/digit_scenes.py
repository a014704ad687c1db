"""digit_scenes: scanned handwritten digits on real photographs, with exact boxes and masks.

The 1,797 digits of 8x8 pixels come with scikit-learn, the photographs with it and scikit-image, so
it needs no download.
"""

import cv2
import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

from casm_tf.data import scenes

# Digits are split before any scene is made, as photographs are.
_DIGITS = {"train": slice(0, 1397), "validation": slice(1397, 1597), "test": slice(1597, 1797)}
# Of the training split's pixels in [0, 1], red, green and blue.
_MEAN, _STD = (0.477, 0.430, 0.408), (0.247, 0.222, 0.231)


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits pasted over random crops of photographs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        scenes.ScenesConfig(
            name="full",
            description="64x64 pixels, as the figures of this project are measured on.",
            scenes={"train": 10_000, "validation": 1_000, "test": 1_000},
        ),
        scenes.ScenesConfig(
            name="tiny",
            description="32x32 pixels and a few scenes, for tests.",
            image_size=32,
            scenes={"train": 128, "validation": 32, "test": 32},
        ),
    ]

    def _info(self):
        return self.dataset_info_from_configs(
            features=scenes.features(
                self.builder_config.image_size, tfds.features.ClassLabel(num_classes=10)
            ),
            supervised_keys=("image", "label"),
            description=__doc__,
            metadata=tfds.core.MetadataDict({"mean": _MEAN, "std": _STD}),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in _DIGITS}

    def _generate_examples(self, split):
        config = self.builder_config
        digits = sklearn.datasets.load_digits()
        chosen = _digits_of(split, config.seed)
        photographs = scenes.photographs(split)
        for index in range(config.scenes[split]):
            random = scenes.random_of_scene(config, split, index)
            digit = random.choice(chosen)
            background = scenes.random_background(photographs, config.image_size, random)
            image, mask = _paste(digits.images[digit] / 16, background, random)
            label = int(digits.target[digit])
            yield f"{split}_{index:05d}", scenes.example(image, label, mask)


def _digits_of(split, seed):
    """The numbers of a split's digits. Who wrote them changes along the file: shuffled first."""
    return np.random.default_rng(seed).permutation(1797)[_DIGITS[split]]


def _paste(digit, background, random):
    """The scene, uint8 [S, S, 3], and which of its pixels are the digit's, bool [S, S]."""
    size = background.shape[0]
    side = int(random.integers(round(0.4 * size), round(0.77 * size)))
    top, left = random.integers(size - side + 1, size=2)
    ink = np.zeros((size, size), np.float32)
    enlarged = cv2.resize(digit.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    ink[top : top + side, left : left + side] = np.clip(2.5 * enlarged - 0.9, 0, 1)
    return scenes.coloured(ink, background, random)
