"""From a mask to a box, and how well a mask or a box agrees with the ground truth.

Masks are float [H, W] in [0, 1], 1 = salient. Boxes are half-open x0, y0, x1, y1 in whole pixels. A
ground-truth box may reach beyond the image: as in the original code it counts with its whole area.
"""

import cv2
import numpy as np

from casm_tf.evaluation.checks import checked_masks


def binarize(mask, method="volume", alpha=1.0):
    """The pixels of a mask that count as salient, bool [H, W].

    Two rules; a pixel of 0 is salient by neither:

        "volume", the original code's: the brightest, so many that their share is the mask's mean;
        "mean", the paper's text: m >= alpha mean(m). `alpha` is for this rule alone.

    Raises ValueError for a mask that is not [H, W] in [0, 1] and for an unknown method.
    """
    return _salient(*_checked(mask), method, alpha)


def _salient(mask, mean, method, alpha):
    if method == "volume":
        # As in the original, what ties with the threshold goes out: of a constant grey mask nothing
        # is left. Its clip gives a mask of zeros and ones back as it was.
        rank = int((mask.size - 1) * (1 - mean) + 0.5)
        threshold = np.partition(mask, rank, axis=None)[rank]
        return mask > np.clip(threshold, 1e-6, 1 - 1e-6)
    if method == "mean":
        return (mask >= alpha * mean) & (mask > 0)
    raise ValueError(f"method is 'volume' or 'mean'; found {method!r}")


def predict_box(mask, method="volume", alpha=1.0):
    """The box (x0, y0, x1, y1) round the largest 4-connected component of the binarized mask.

    None where nothing is salient; of equally large components the one that begins first in reading
    order. The arguments are `binarize`'s, and it raises what that does.
    """
    return box_of_mean(*_checked(mask), method, alpha)


def box_of_mean(mask, mean, method, alpha):
    """`predict_box` of a float32 mask whose mean is known."""
    salient = _salient(mask, mean, method, alpha).view(np.uint8)
    # Half the time of cv2.connectedComponentsWithStats.
    _, components = cv2.connectedComponents(salient, connectivity=4)
    areas = np.bincount(components.ravel())[1:]  # The first is the background.
    if len(areas) == 0:
        return None
    largest = components == 1 + np.argmax(areas)
    x0, y0, width, height = cv2.boundingRect(largest.view(np.uint8))
    return x0, y0, x0 + width, y0 + height


def component_boxes(mask, least_share):
    """The boxes round the 4-connected components of a mask binarized by the volume rule.

    The largest component's, which is `predict_box`'s, and of the others those with at least
    `least_share` of the mask's pixels: a list, the largest first, equally large ones in reading
    order; empty where nothing is salient. It raises what `binarize` does.
    """
    salient = binarize(mask).view(np.uint8)
    _, _, found, _ = cv2.connectedComponentsWithStats(salient, connectivity=4)
    found = found[1:]  # The first is the background.
    order = np.argsort(-found[:, cv2.CC_STAT_AREA], kind="stable")
    return [
        (x0, y0, x0 + width, y0 + height)
        for place, (x0, y0, width, height, area) in enumerate(found[order].tolist())
        if place == 0 or area / salient.size >= least_share
    ]


def min_max(mask):
    """A mask stretched to [0, 1], float64 [H, W]: (m - min m) / (max m - min m), 0 if constant."""
    mask = np.asarray(mask, np.float64)
    smallest, largest = mask.min(), mask.max()
    if smallest == largest:
        return np.zeros_like(mask)
    return (mask - smallest) / (largest - smallest)


def iou(first, second):
    """Intersection over union of two boxes, 0 to 1; 0 where neither has an area."""
    common = (*map(max, first[:2], second[:2]), *map(min, first[2:], second[2:]))
    intersection = _area(common)
    union = _area(first) + _area(second) - intersection
    return float(intersection / union) if union else 0.0


def continuous_f1(mask, box):
    """The paper's F1 of a mask that is not binarized and a ground-truth box, 0 to 1.

    With the precision P = (sum of m inside the box) / (sum of m) and the recall
    R = (sum of m inside the box) / (the box's area),

        F1 = 2 P R / (P + R) = 2 (sum of m inside the box) / (sum of m + the box's area).

    Raises ValueError for a mask that is not [H, W] in [0, 1].
    """
    return f1_of_mean(*_checked(mask), box)


def f1_of_mean(mask, mean, box):
    """`continuous_f1` of a mask whose mean is known."""
    x0, y0, x1, y1 = (max(0, coordinate) for coordinate in box)
    inside = mask[y0:y1, x0:x1].sum(dtype=np.float64)
    return float(2 * inside / (mean * mask.size + _area(box))) if inside else 0.0


def share_in_boxes(boxes, shape):
    """The share of an image of a shape (H, W) that boxes [N, 4] cover together, in [0, 1]."""
    covered = np.zeros(shape, bool)
    for x0, y0, x1, y1 in np.maximum(boxes, 0):
        covered[y0:y1, x0:x1] = True
    return float(covered.mean())


def _area(box):
    """A box's area in pixels; 0 where it is empty."""
    x0, y0, x1, y1 = box
    return max(0, x1 - x0) * max(0, y1 - y0)


def mean_of(mask):
    """A mask's mean; sums are taken in float64."""
    return float(mask.mean(dtype=np.float64))


def _checked(mask):
    """The mask as float32, and its mean."""
    mask = np.asarray(mask, np.float32)
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask is [height, width]; found shape {list(mask.shape)}")
    checked_masks(mask[None])
    return mask, mean_of(mask)
