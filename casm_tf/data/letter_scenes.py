"""letter_scenes: printed letters and digits on real photographs, with exact boxes and masks.

40 classes, for training on some of them. The typefaces come with Matplotlib, the photographs with
scikit-learn and scikit-image, so it needs no download.
"""

import functools
import pathlib

import cv2
import matplotlib
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

from casm_tf.data import scenes

# Without the digits and small letters that could be taken for another class.
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789adehrt"
# Typefaces are split before any scene is made. DejaVu Sans Mono is DejaVu Sans made narrower and
# the oblique ones are slanted, so these stay together: no shape is in two splits.
_TYPEFACES = {
    "train": (
        *("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-Bold", "DejaVuSans-BoldOblique"),
        *("DejaVuSansMono", "DejaVuSansMono-Oblique"),
        *("DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
        *("DejaVuSerif", "DejaVuSerif-Italic"),
        *("STIXGeneral", "STIXGeneralItalic", "cmss10", "cmti10"),
    ),
    "validation": ("STIXGeneralBol", "cmb10", "cmtt10"),
    "test": ("DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "STIXGeneralBolIta", "cmr10"),
}
_LARGEST_ROTATION = 15  # degrees
# Of the training split's pixels in [0, 1], red, green and blue.
_MEAN, _STD = (0.477, 0.432, 0.410), (0.250, 0.226, 0.235)


class LetterScenes(tfds.core.GeneratorBasedBuilder):
    """Printed letters and digits pasted over random crops of photographs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        scenes.ScenesConfig(
            name="full",
            description="64x64 pixels, as the figures of this project are measured on.",
            scenes={"train": 20_000, "validation": 1_000, "test": 4_000},
        ),
        scenes.ScenesConfig(
            name="tiny",
            description="32x32 pixels and a few scenes, for tests.",
            image_size=32,
            scenes={"train": 160, "validation": 80, "test": 80},
        ),
    ]

    def _info(self):
        return self.dataset_info_from_configs(
            features=scenes.features(
                self.builder_config.image_size, tfds.features.ClassLabel(names=list(_CHARACTERS))
            ),
            supervised_keys=("image", "label"),
            description=__doc__,
            metadata=tfds.core.MetadataDict({"mean": _MEAN, "std": _STD}),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in _TYPEFACES}

    def _generate_examples(self, split):
        config = self.builder_config
        photographs = scenes.photographs(split)
        for index in range(config.scenes[split]):
            random = scenes.random_of_scene(config, split, index)
            label = index % len(_CHARACTERS)  # as many of each class
            glyph = _glyph(random.choice(_TYPEFACES[split]), _CHARACTERS[label])
            background = scenes.random_background(photographs, config.image_size, random)
            ink = _place(glyph, config.image_size, random)
            image, mask = scenes.coloured(ink, background, random)
            yield f"{split}_{index:05d}", scenes.example(image, label, mask)


@functools.cache
def _glyph(typeface, character):
    """A character as it is printed, about 200 pixels high: float32 [H, W] in [0, 1], 1 = ink."""
    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    font = ImageFont.truetype(path, 256, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (512, 512))
    ImageDraw.Draw(image).text((128, 128), character, fill=255, font=font)
    image = image.crop(image.getbbox())
    return np.asarray(image, np.float32) / 255


def _place(glyph, size, random):
    """The ink of the glyph at a random size, rotation and place, float32 [S, S] in [0, 1]."""
    longer = random.uniform(0.45, 0.75) * size
    angle = random.uniform(-_LARGEST_ROTATION, _LARGEST_ROTATION)
    scale = longer / max(glyph.shape)
    shape = [max(1, round(scale * side)) for side in glyph.shape]
    # Made smaller first, as a warp alone would pass over most of the pixels.
    glyph = cv2.resize(glyph, shape[::-1], interpolation=cv2.INTER_AREA)
    warp = cv2.getRotationMatrix2D([(side - 1) / 2 for side in shape[::-1]], angle, 1.0)
    cosine, sine = np.abs(warp[0, :2])
    width, height = cosine * shape[1] + sine * shape[0], sine * shape[1] + cosine * shape[0]
    centre = [random.uniform(side / 2, size - side / 2) - 0.5 for side in (width, height)]
    warp[:, 2] += np.array(centre) - [(side - 1) / 2 for side in shape[::-1]]
    ink = cv2.warpAffine(glyph, warp, (size, size), flags=cv2.INTER_LINEAR)
    return np.clip(1.5 * ink, 0, 1)  # else the thinnest strokes fade
