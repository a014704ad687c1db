"""Masks that follow the edges of the pictures that they are of."""

import cv2
import numpy as np
from PIL import Image

_SIDE = 512  # pixels: the filter's coefficients are found on a picture no larger than this
_WINDOW = 1 / 40  # half a window, of the longer side
_EPSILON = 1e-4  # colours that vary less than this in a window are no edge


def snapped(image, mask):
    """A mask snapped to a picture's edges, by the guided filter (He, Sun and Tang, PAMI 2013).

    In each window the mask is taken as a linear function of the colours,

        m = a . (r, g, b) + c,    (a, c) by least squares with `_EPSILON` |a|^2,

    and the windows that a pixel is in are averaged. Both are Pillow images of one size, the picture
    in RGB, the mask in grey; returns a mask alike.
    """
    large = np.asarray(image)
    height, width = large.shape[:2]
    scale = min(1, _SIDE / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    radius = max(1, round(_WINDOW * max(size)))

    def mean(x):
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1))

    colours = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255
    small = np.asarray(mask.resize(size, Image.Resampling.BOX), np.float32) / 255
    colour_mean, mask_mean = mean(colours), mean(small)
    with_mask = mean(colours * small[..., None]) - colour_mean * mask_mean[..., None]
    variance = np.empty((*small.shape, 3, 3), np.float32)
    for row in range(3):
        products = mean(colours * colours[..., row, None])
        variance[..., row] = products - colour_mean * colour_mean[..., row, None]
    variance += _EPSILON * np.eye(3, dtype=np.float32)
    slopes = np.linalg.solve(variance, with_mask[..., None])[..., 0]
    offset = mask_mean - (slopes * colour_mean).sum(axis=2)

    refined = cv2.resize(mean(offset), (width, height))
    for channel, slope in enumerate(cv2.split(mean(slopes))):
        # A channel at a time, as a picture may have 50 million pixels.
        term = cv2.resize(slope, (width, height))
        term *= large[..., channel]
        term /= 255
        refined += term
    return Image.fromarray(np.round(255 * refined.clip(0, 1)).astype(np.uint8))
