"""What a mask model finds in a picture: its mask, box and class, and the picture by them."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

OUTPUTS = ("mask", "box", "probabilities", "label")  # of an exported model
STRIDE = 32  # of every network's coarsest map: an image is a multiple of it a side

# Orange and sky blue of Okabe and Ito, told apart with every kind of colour vision.
MASK_COLOR, BOX_COLOR = "#E69F00", "#56B4E9"
MASK_OPACITY = 0.7  # of what is salient, over the picture in grey
_LEAST_SHARE = 0.01  # of the picture, for a box of its own


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """The mask of one picture, upright as it is looked at.

    Attributes:
        size: (width, height) of the picture.
        box: (x0, y0, x1, y1), half-open, in pixels, round the largest piece that is salient; None
            where nothing is.
        label: the class that the model's classifier sees.
        probability: that class's, in [0, 1].
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int] | None
    label: str
    probability: float
    _small: np.ndarray = dataclasses.field(repr=False)  # the mask as the model gives it
    _open: object = dataclasses.field(repr=False)  # () -> the picture, a Pillow image in RGB

    @property
    def mask(self):
        """float32 [H, W] in [0, 1], 1 = salient; made anew when asked for, as it may be large."""
        large = Image.fromarray(self._small).resize(self.size, Image.Resampling.BILINEAR)
        return np.clip(np.asarray(large), 0, 1)

    @property
    def boxes(self):
        """The boxes of several objects, a list, the largest object's first; [] if box is None.

        One, like `box`, round each 4-connected piece of at least 1% of the picture, and round the
        largest however small it is, which is `box` itself; pieces of one size come in reading
        order. A server's masks come in 256 steps, so that there the first may differ from `box`.

        Found anew when asked for. Raises ValueError for a mask that is not in [0, 1].
        """
        from casm_tf.evaluation import localization  # with OpenCV, which nothing else here needs

        cells = len(self._small)
        found = localization.component_boxes(np.clip(self._small, 0, 1), _LEAST_SHARE)
        return [in_pixels(np.divide(box, cells), cells, self.size) for box in found]

    def opacity(self):
        """The mask as a grey Pillow image of 8 bits, a quarter of `mask`'s memory."""
        grey = Image.fromarray(np.round(255 * self._small).astype(np.uint8))
        return grey.resize(self.size, Image.Resampling.BILINEAR)

    def picture(self):
        """The picture, a Pillow image in RGB of its own; a file is read again.

        Raises ValueError where the file is not what it was.
        """
        image = self._open()
        if image.size != self.size:
            raise ValueError("changed while it was read")
        return image

    def cutout(self):
        """The picture, transparent where the mask is 0: a Pillow image in RGBA."""
        image = self.picture()
        image.putalpha(self.opacity())
        return image

    def overlay(self):
        """The picture in grey with the mask in orange and the box in blue: a Pillow image."""
        return overlaid(self.picture(), self.opacity(), self.box)


def overlaid(image, opacity, box):
    """`Mask.overlay` of a picture in RGB, the mask in grey and the box or None."""
    overlay = image.convert("L").convert("RGB")
    overlay.paste(MASK_COLOR, mask=opacity.point(lambda value: MASK_OPACITY * value))
    if box:
        x0, y0, x1, y1 = box
        edge = max(1, round(max(image.size) / 300))
        ImageDraw.Draw(overlay).rectangle((x0, y0, x1 - 1, y1 - 1), outline=BOX_COLOR, width=edge)
    return overlay


def in_pixels(box, cells, size):
    """A box in fractions of a mask of `cells` a side -> the pixels of the picture it is on.

    (x0, y0, x1, y1), half-open; None for a box that is empty. `size` is (width, height).
    """
    x0, y0, x1, y1 = np.round(np.asarray(box) * cells).astype(int).tolist()
    if x0 == x1:
        return None
    width, height = size
    return (
        x0 * width // cells,
        y0 * height // cells,
        -(-x1 * width // cells),
        -(-y1 * height // cells),
    )
