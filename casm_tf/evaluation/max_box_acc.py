"""MaxBoxAcc and MaxBoxAccV2 of Choe et al. (2020), which do not depend on a choice of threshold."""

import concurrent.futures

import cv2
import numpy as np

from casm_tf import host
from casm_tf.evaluation.checks import checked_boxes, checked_masks
from casm_tf.evaluation.localization import min_max

THRESHOLDS = np.arange(0, 1, 0.001)
IOUS = np.array([0.3, 0.5, 0.7])

# The benchmark's masks have 8 bits, and its thresholds are cut off to them.
_LEVELS = (255 * THRESHOLDS).astype(int)

# What one call of OpenCV looks at: more would not stay in the processor's cache.
_TILED_PIXELS = 800_000


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
        # OpenCV and NumPy let go of the interpreter's lock.
        with concurrent.futures.ThreadPoolExecutor(host.cores()) as pool:
            for ious in pool.map(_ious_by_level, masks, boxes):
                self._hits += ious[:, None] >= IOUS[:, None]
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
    levels = (255 * min_max(mask)).astype(np.uint8)
    # Between two values that occur nothing changes; the first is 0, the last 255.
    values = np.flatnonzero(np.bincount(levels.ravel(), minlength=256))
    if len(values) == 1:
        return np.zeros((2, 255))
    x0, y0, x1, y1, first, largest = _rectangles(levels, values[:-1].astype(np.uint8))
    height, width = mask.shape
    predicted = np.stack([x0, y0, np.minimum(x1 + 2, width), np.minimum(y1 + 2, height)])
    truths = boxes.T + np.array([[0], [0], [1], [1]])
    ious = _ious(predicted[:, :, None], truths[:, None]).max(axis=1)
    both = np.stack([ious[largest], np.maximum.reduceat(ious, first)])
    return np.repeat(both, np.diff(values), axis=1)


def _rectangles(levels, values):
    """Round the contours of what is above each of the values, one value after the other.

    Int arrays: the first and last column and row of each, x0, y0, x1, y1; then, of each value, the
    number of its first contour and of the one with the largest area.
    """
    # Of equal rows or columns side by side, as a mask enlarged by "nearest" has, the first and the
    # last are enough: between them contours run straight.
    rows, columns = _ends(levels), _ends(levels.T)
    levels = levels[np.ix_(rows, columns)]
    # One call for many values: what is above each is a tile, with a row of zeros below it.
    count = min(len(values), max(1, _TILED_PIXELS // levels.size))
    tiles = np.zeros((count, len(rows) + 1, len(columns)), np.uint8)
    rows = np.tile(np.append(rows, 0), count)
    found, seen = [], 0
    for start in range(0, len(values), count):
        some = values[start : start + count]
        above = tiles[: len(some)]
        np.greater(levels, some[:, None, None], out=above[:, :-1].view(bool))
        contours, _ = cv2.findContours(
            above.reshape(-1, len(columns)), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
        )
        contours = contours[::-1]  # OpenCV gives the lowest first.
        ends = np.cumsum([*map(len, contours)])
        begins = np.append(0, ends[:-1])
        x, y = np.concatenate(contours)[:, 0].T
        tile = y[begins] // tiles.shape[1]
        x, y = columns[x], rows[y]
        numbers = np.arange(len(some))
        first = np.searchsorted(tile, numbers)
        areas = _doubled_areas(x, y, begins, ends - 1)
        # Of equal ones the benchmark takes the lowest, never a hole: OpenCV's first.
        candidates = np.flatnonzero(areas == np.maximum.reduceat(areas, first)[tile])
        last = np.searchsorted(tile[candidates], numbers, side="right") - 1
        corners = [by.reduceat(c, begins) for by in (np.minimum, np.maximum) for c in (x, y)]
        found.append([*corners, seen + first, seen + candidates[last]])
        seen += len(contours)
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _doubled_areas(x, y, first, last):
    """Of closed lines through the points `first` to `last`; those of holes are negative."""
    products = np.empty(len(x), int)
    products[:-1] = x[1:] * y[:-1] - x[:-1] * y[1:]
    products[last] = x[first] * y[last] - x[last] * y[first]
    return np.add.reduceat(products, first)


def _ends(rows):
    """The first and the last of each run of equal rows."""
    new = np.ones(len(rows) + 1, bool)
    new[1:-1] = (rows[1:] != rows[:-1]).any(axis=1)
    return np.flatnonzero(new[1:] | new[:-1])


def _ious(predicted, truths):
    """Intersections over unions of boxes [4, ...] that broadcast; the predicted have an area."""
    corners = np.maximum(predicted[:2], truths[:2]), np.minimum(predicted[2:], truths[2:])
    intersections = _areas(*corners)
    areas = _areas(predicted[:2], predicted[2:]) + _areas(truths[:2], truths[2:])
    return intersections / (areas - intersections)


def _areas(first, last):
    return np.prod(np.maximum(0, last - first), axis=0)
