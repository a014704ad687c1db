"""letter_scenes: printed letters and digits on real photographs, with exact boxes and masks.

40 classes, for training on some of them. The typefaces come with Matplotlib, the photographs with
scikit-learn and scikit-image, so it needs no download.
"""

import functools
import pathlib

import cv2
import matplotlib
import numpy as np
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


class LetterScenes(scenes.Scenes):
    """Printed letters and digits pasted over random crops of photographs."""

    LABELS = {"names": list(_CHARACTERS)}
    MEAN, STD = (0.477, 0.432, 0.410), (0.250, 0.226, 0.235)
    BUILDER_CONFIGS = scenes.sizes(
        full={"train": 20_000, "validation": 1_000, "test": 4_000},
        tiny={"train": 160, "validation": 80, "test": 80},
    )

    def drawn(self, split, index, random):
        label = index % len(_CHARACTERS)  # as many of each class
        return _glyph(random.choice(_TYPEFACES[split]), _CHARACTERS[label]), label

    @staticmethod
    def placed(glyph, size, random):
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


@functools.cache
def _glyph(typeface, character):
    """A character as it is printed, about 200 pixels high: float32 [H, W] in [0, 1], 1 = ink."""
    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    font = ImageFont.truetype(path, 256, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (512, 512))
    ImageDraw.Draw(image).text((128, 128), character, fill=255, font=font)
    image = image.crop(image.getbbox())
    return np.asarray(image, np.float32) / 255
