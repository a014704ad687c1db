"""What digit_scenes and letter_scenes share: all but the objects that are pasted on photographs.

The photographs come with scikit-learn (two) and scikit-image (ten).
"""

import dataclasses
import inspect
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
# Photographs are split before any scene is made. There are too few to keep whole ones apart
# (docs/decisions.md), so each is cut into three strips along its longer side.
_STRIPS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}
_SMALLEST_CONTRAST = 0.35  # between object and background, as a distance in the RGB cube [0, 1]^3


@dataclasses.dataclass(kw_only=True)
class ScenesConfig(tfds.core.BuilderConfig):
    """A size of a data set of scenes: pixels a side, scenes a split, the seed they come from."""

    image_size: int = 64
    scenes: dict[str, int]
    seed: int = 0


class Scenes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of scenes, which its module describes.

    A subclass has BUILDER_CONFIGS, of `sizes`; LABELS, the arguments of its ClassLabel; MEAN and
    STD of the training split's pixels in [0, 1], red, green and blue; and what follows.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def drawn(self, split, index, random):
        """What is pasted in a split's scene of this number, [H, W] in [0, 1], and its label."""
        raise NotImplementedError

    @staticmethod
    def placed(drawn, size, random):
        """What was `drawn` at a random place of a scene, its ink: float32 [S, S] in [0, 1]."""
        raise NotImplementedError

    def _info(self):
        size = self.builder_config.image_size
        features = {
            "image": tfds.features.Image(shape=(size, size, 3)),
            "label": tfds.features.ClassLabel(**self.LABELS),
            "bbox": tfds.features.BBoxFeature(),
            "mask": tfds.features.Image(shape=(size, size, 1)),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            description=inspect.getmodule(type(self)).__doc__,
            metadata=tfds.core.MetadataDict({"mean": self.MEAN, "std": self.STD}),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in _STRIPS}

    def _generate_examples(self, split):
        config = self.builder_config
        photographs = [_strip(_photograph(name), *_STRIPS[split]) for name in _PHOTOGRAPHS]
        for index in range(config.scenes[split]):
            # A generator for each: its content depends on no other scene.
            random = np.random.default_rng([config.seed, *split.encode(), index])
            drawn, label = self.drawn(split, index, random)
            background = _random_background(photographs, config.image_size, random)
            ink = self.placed(drawn, config.image_size, random)
            image, mask = coloured(ink, background, random)
            yield (
                f"{split}_{index:05d}",
                {
                    "image": _png(image),
                    "label": label,
                    "bbox": _bounding_box(mask),
                    "mask": _png(mask.astype(np.uint8) * 255),
                },
            )


def sizes(full, tiny):
    """The configs of a data set, {split: scenes} each."""
    return [
        ScenesConfig(
            name="full",
            description="64x64 pixels, as the figures of this project are measured on.",
            scenes=full,
        ),
        ScenesConfig(
            name="tiny",
            description="32x32 pixels and a few scenes, for tests.",
            image_size=32,
            scenes=tiny,
        ),
    ]


def _random_background(photographs, size, random):
    """A square part of one of them, `size` to 4 times `size` pixels wide, at `size` x `size`."""
    photograph = photographs[random.integers(len(photographs))]
    side = int(random.integers(size, min(4 * size, *photograph.shape[:2]) + 1))
    top = random.integers(photograph.shape[0] - side + 1)
    left = random.integers(photograph.shape[1] - side + 1)
    crop = photograph[top : top + side, left : left + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    return cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_AREA)


def coloured(ink, background, random):
    """The background, uint8 [S, S, 3], with an object in a random colour where there is ink.

    `ink` is float32 [S, S] in [0, 1]. Returns the scene, uint8 [S, S, 3], and which pixels are the
    object's, bool [S, S]: those of at least half ink.
    """
    mask = ink >= 0.5
    beneath = background[mask].mean(axis=0) / 255
    # Drawn without regard to the object, and again until it stands out from what it covers.
    colour = random.random(3)
    while np.linalg.norm(colour - beneath) < _SMALLEST_CONTRAST:
        colour = random.random(3)
    ink = ink[..., None]
    scene = ink * colour * 255 + (1 - ink) * background
    return np.round(scene).astype(np.uint8), mask


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
