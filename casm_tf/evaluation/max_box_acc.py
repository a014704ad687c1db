"""MaxBoxAcc and MaxBoxAccV2 of Choe et al. (2020), which do not depend on a choice of threshold."""

import cv2
import numpy as np

from casm_tf.evaluation.checks import checked_boxes, checked_masks
from casm_tf.evaluation.localization import min_max

THRESHOLDS = np.arange(0, 1, 0.001)
IOUS = np.array([0.3, 0.5, 0.7])

# The benchmark's masks have 8 bits, and its thresholds are cut off to them.
_LEVELS = (255 * THRESHOLDS).astype(int)


class MaxBoxAcc:
    """The share of images whose box is right, at the threshold that is best for all of them.

    A mask is stretched to [0, 1] (`min_max`) and cut off to 8 bits; of its pixels above
    trunc(255 t), for each of the thresholds t = 0, 0.001, ..., 0.999, the contours are drawn, those
    of holes too. An image is right at t where an IoU with one of its ground-truth boxes is at least
    d: by "largest", that of the box round the contour with the largest area; by "all", that of the
    box round any contour. A constant mask has no contour and is wrong at every threshold.

        MaxBoxAcc:   max over t of the share at d = 0.5, by "largest";
        MaxBoxAccV2: mean over d = 0.3, 0.5, 0.7 of the max over t of the share, by "all".

    The benchmark scores the whole picture made square, its boxes' corners truncated. Its IoU takes
    x1 and y1 for the last column and row of a box, where they are the ones after: so here too every
    box is a pixel longer to the right and below, but a predicted one ends where the mask does.
    """

    def __init__(self):
        self._images = 0
        self._hits = np.zeros((2, len(IOUS), 255), int)

    def accumulate(self, masks, boxes):
        """Take in a batch.

        `masks` are float [B, H, W] in [0, 1]; `boxes` one integer array [N, 4] an image, N >= 1, of
        half-open pixels x0, y0, x1, y1. Raises ValueError for anything else.
        """
        masks = checked_masks(masks)
        boxes = checked_boxes(boxes, masks)
        for mask, image_boxes in zip(masks, boxes, strict=True):
            self._hits += _ious_by_level(mask, image_boxes)[:, None] >= IOUS[:, None]
            self._images += 1

    def accuracies(self):
        """{"largest": float [3, 1000], "all": ...}: shares of images, by IoU and by threshold."""
        if not self._images:
            raise ValueError("MaxBoxAcc has seen no mask")
        largest, every = self._hits[..., _LEVELS] / self._images
        return {"largest": largest, "all": every}

    def localization_errors(self):
        """LE by threshold, float [1000]: the share of images that "largest" misses at IoU 0.5."""
        return 1 - self.accuracies()["largest"][1]

    def compute(self):
        """{"MaxBoxAcc", "MaxBoxAccV2"}, shares in [0, 1]; ValueError if there was no mask."""
        accuracies = self.accuracies()
        return {
            "MaxBoxAcc": float(accuracies["largest"][1].max()),
            "MaxBoxAccV2": float(accuracies["all"].max(axis=1).mean()),
        }


def _ious_by_level(mask, boxes):
    """The IoU of the largest contour's box and the best of all contours, float [2, 255 levels]."""
    height, width = mask.shape
    levels = (255 * min_max(mask)).astype(np.uint8)
    # Between two values that occur nothing changes; the first is 0, the last 255.
    values = np.flatnonzero(np.bincount(levels.ravel(), minlength=256))
    if len(values) == 1:
        return np.zeros((2, 255))
    rectangles, first, largest = [], [], []
    for value in values[:-1].tolist():
        _, above = cv2.threshold(levels, value, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        first.append(len(rectangles))
        largest.append(len(rectangles) + int(np.argmax([*map(cv2.contourArea, contours)])))
        rectangles.extend(map(cv2.boundingRect, contours))
    x, y, w, h = np.array(rectangles).T
    predicted = np.stack([x, y, np.minimum(x + w + 1, width), np.minimum(y + h + 1, height)])
    truths = boxes.T + np.array([[0], [0], [1], [1]])
    ious = _ious(predicted[:, :, None], truths[:, None]).max(axis=1)
    both = np.stack([ious[largest], np.maximum.reduceat(ious, first)])
    return np.repeat(both, np.diff(values), axis=1)


def _ious(predicted, truths):
    """Intersections over unions of boxes [4, ...] that broadcast; the predicted have an area."""
    corners = np.maximum(predicted[:2], truths[:2]), np.minimum(predicted[2:], truths[2:])
    intersections = _areas(*corners)
    areas = _areas(predicted[:2], predicted[2:]) + _areas(truths[:2], truths[2:])
    return intersections / (areas - intersections)


def _areas(first, last):
    return np.prod(np.maximum(0, last - first), axis=0)
