"""The pointing game of Zhang et al. (2016)."""

import numpy as np

from casm_tf.evaluation.checks import checked_boxes, checked_masks
from casm_tf.evaluation.means import Means


class PointingGame:
    """The share of images where a mask's maximum lies in one of the ground-truth boxes.

    Where several pixels are the maximum each counts for its part, as if one of them were drawn: a
    constant mask scores the share of the image that its boxes cover.

    Args:
        tolerance: how far outside a box still counts, in pixels of the mask. The paper has 15, of
            the photograph at its own size.
    """

    def __init__(self, tolerance=0):
        if not tolerance >= 0:
            raise ValueError(f"tolerance is at least 0 pixels; found {tolerance}")
        self.tolerance = tolerance
        self.means = Means()

    def accumulate(self, masks, boxes):
        """Take in a batch.

        `masks` are float [B, H, W] in [0, 1]; `boxes` one integer array [N, 4] an image, N >= 1, of
        half-open pixels x0, y0, x1, y1. Raises ValueError for anything else.
        """
        masks = checked_masks(masks)
        boxes = checked_boxes(boxes, masks)
        for mask, image_boxes in zip(masks, boxes, strict=True):
            y, x = np.nonzero(mask == mask.max())
            x0, y0, x1, y1 = image_boxes.T[..., None]
            right = np.maximum(0, np.maximum(x0 - x, x - (x1 - 1)))
            down = np.maximum(0, np.maximum(y0 - y, y - (y1 - 1)))
            hits = right**2 + down**2 <= self.tolerance**2
            self.means.add(pointing_game=hits.any(axis=0).mean())

    def compute(self):
        """{"pointing_game"}, in [0, 1]; ValueError if there was no mask."""
        if not self.means.images:
            raise ValueError("PointingGame has seen no mask")
        return self.means.compute()
