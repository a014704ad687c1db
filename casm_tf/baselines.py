"""What CASM is compared with, as masks for the same evaluators."""

import numpy as np


def full_image(height, width):
    """The mask that takes everything for salient: ones, float32 [height, width]."""
    return np.ones((height, width), np.float32)


def centre_box(height, width):
    """The mask of a centred box of half the image's area: 0 or 1, float32 [height, width].

    Each side is sqrt(1/2) of the image's, to the pixel: 158 of 224, as the original code's.
    """
    top, left = (round(side * (1 - 0.5**0.5) / 2) for side in (height, width))
    mask = np.zeros((height, width), np.float32)
    mask[top : height - top, left : width - left] = 1
    return mask
