"""digit_scenes: scanned handwritten digits on real photographs, with exact boxes and masks.

The 1,797 digits of 8x8 pixels come with scikit-learn, the photographs with it and scikit-image, so
it needs no download.
"""

import functools

import cv2
import numpy as np
import sklearn.datasets

from casm_tf.data import scenes

# Digits are split before any scene is made, as photographs are.
_DIGITS = {"train": slice(0, 1397), "validation": slice(1397, 1597), "test": slice(1597, 1797)}
_digits = functools.cache(sklearn.datasets.load_digits)


class DigitScenes(scenes.Scenes):
    """Handwritten digits pasted over random crops of photographs."""

    LABELS = {"num_classes": 10}
    MEAN, STD = (0.477, 0.430, 0.408), (0.247, 0.222, 0.231)
    BUILDER_CONFIGS = scenes.sizes(
        full={"train": 10_000, "validation": 1_000, "test": 1_000},
        tiny={"train": 128, "validation": 32, "test": 32},
    )

    def drawn(self, split, index, random):
        digits = _digits()
        chosen = random.choice(_digits_of(split, self.builder_config.seed))
        return digits.images[chosen] / 16, int(digits.target[chosen])

    @staticmethod
    def placed(digit, size, random):
        """The ink of the digit at a random size and place, float32 [S, S] in [0, 1]."""
        side = int(random.integers(round(0.4 * size), round(0.77 * size)))
        top, left = random.integers(size - side + 1, size=2)
        ink = np.zeros((size, size), np.float32)
        enlarged = cv2.resize(digit.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        ink[top : top + side, left : left + side] = np.clip(2.5 * enlarged - 0.9, 0, 1)
        return ink


def _digits_of(split, seed):
    """The numbers of a split's digits. Who wrote them changes along the file: shuffled first."""
    return np.random.default_rng(seed).permutation(1797)[_DIGITS[split]]
