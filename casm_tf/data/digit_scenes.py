"""digit_scenes: scanned handwritten digits on real photographs, with exact boxes and masks.

Everything it is made of comes with scikit-learn (1,797 digits of 8x8 pixels and two
photographs) and scikit-image (ten more photographs), so it needs no download.
"""

import dataclasses
import io

import cv2
import numpy as np
import skimage.data
import sklearn.datasets
import tensorflow_datasets as tfds

# Left out: pictures that show writing or digits of their own (coins, page, text, clock), drawings
# and what a microscope or telescope took.
_PHOTOGRAPHS = (
    *("china", "flower", "astronaut", "camera", "chelsea", "coffee"),
    *("motorcycle", "rocket", "brick", "grass", "gravel", "moon"),
)
# Digits and photographs are split before any scene is made. There are too few photographs to keep
# whole ones apart (BUILD_NOTES.md), so each is cut into three strips along its longer side.
_STRIPS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}
_DIGITS = {"train": slice(0, 1397), "validation": slice(1397, 1597), "test": slice(1597, 1797)}
# Of the training split's pixels in [0, 1], red, green and blue.
_MEAN, _STD = (0.477, 0.430, 0.408), (0.247, 0.222, 0.231)
_SMALLEST_CONTRAST = 0.35  # between digit and background, as a distance in the RGB cube [0, 1]^3


@dataclasses.dataclass(kw_only=True)
class DigitScenesConfig(tfds.core.BuilderConfig):
    """A size of digit_scenes: pixels a side, scenes a split, and the seed they come from."""

    image_size: int = 64
    scenes: dict[str, int]
    seed: int = 0


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits pasted over random crops of photographs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        DigitScenesConfig(
            name="full",
            description="64x64 pixels, as the figures of this project are measured on.",
            scenes={"train": 10_000, "validation": 1_000, "test": 1_000},
        ),
        DigitScenesConfig(
            name="tiny",
            description="32x32 pixels and a few scenes, for tests.",
            image_size=32,
            scenes={"train": 128, "validation": 32, "test": 32},
        ),
    ]

    def _info(self):
        size = self.builder_config.image_size
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "bbox": tfds.features.BBoxFeature(),
                    "mask": tfds.features.Image(shape=(size, size, 1)),
                }
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
        photographs = [_strip(_photograph(name), *_STRIPS[split]) for name in _PHOTOGRAPHS]
        for index in range(config.scenes[split]):
            # A generator for each scene: its content depends on no other scene.
            random = np.random.default_rng([config.seed, *split.encode(), index])
            digit = random.choice(chosen)
            photograph = photographs[random.integers(len(photographs))]
            background = _random_crop(photograph, config.image_size, random)
            image, mask = _paste(digits.images[digit] / 16, background, random)
            yield (
                f"{split}_{index:05d}",
                {
                    "image": _png(image),
                    "label": int(digits.target[digit]),
                    "bbox": _bounding_box(mask),
                    "mask": _png(mask.astype(np.uint8) * 255),
                },
            )


def _digits_of(split, seed):
    """The numbers of a split's digits. Who wrote them changes along the file: shuffled first."""
    return np.random.default_rng(seed).permutation(1797)[_DIGITS[split]]


def _photograph(name):
    """RGB uint8 [H, W, 3] of a photograph that comes with scikit-learn or scikit-image."""
    if name in ("china", "flower"):
        return sklearn.datasets.load_sample_image(f"{name}.jpg")
    if name == "motorcycle":
        return skimage.data.stereo_motorcycle()[0]
    image = getattr(skimage.data, name)()
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _strip(photograph, start, end):
    """What lies between two fractions of a photograph's longer side."""
    axis = int(np.argmax(photograph.shape[:2]))
    length = photograph.shape[axis]
    return photograph.take(range(round(start * length), round(end * length)), axis=axis)


def _random_crop(photograph, size, random):
    """A square part of a photograph, `size` to 4 times `size` pixels wide, at `size` x `size`."""
    side = int(random.integers(size, min(4 * size, *photograph.shape[:2]) + 1))
    top = random.integers(photograph.shape[0] - side + 1)
    left = random.integers(photograph.shape[1] - side + 1)
    crop = photograph[top : top + side, left : left + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    return cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_AREA)


def _paste(digit, background, random):
    """The scene, uint8 [S, S, 3], and which of its pixels are the digit's, bool [S, S]."""
    size = background.shape[0]
    side = int(random.integers(round(0.4 * size), round(0.77 * size)))
    top, left = random.integers(size - side + 1, size=2)
    ink = np.zeros((size, size, 1), np.float32)
    enlarged = cv2.resize(digit.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    ink[top : top + side, left : left + side, 0] = np.clip(2.5 * enlarged - 0.9, 0, 1)
    mask = ink[..., 0] >= 0.5
    beneath = background[mask].mean(axis=0) / 255
    # Drawn without regard to the digit, and again until it stands out from what it covers.
    colour = random.random(3)
    while np.linalg.norm(colour - beneath) < _SMALLEST_CONTRAST:
        colour = random.random(3)
    scene = ink * colour * 255 + (1 - ink) * background
    return np.round(scene).astype(np.uint8), mask


def _png(image):
    """The image as a PNG file; left to TFDS, encoding takes more time than all the rest."""
    encoded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1]
    return io.BytesIO(encoded.tobytes())


def _bounding_box(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return tfds.features.BBox(
        ymin=rows[0] / height,
        xmin=columns[0] / width,
        ymax=(rows[-1] + 1) / height,
        xmax=(columns[-1] + 1) / width,
    )
