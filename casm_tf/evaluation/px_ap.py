"""PxAP of Choe et al. (2020): how well a mask ranks the pixels of an image."""

import numpy as np

from casm_tf.evaluation.checks import checked_masks, checked_truths
from casm_tf.evaluation.localization import min_max
from casm_tf.evaluation.max_box_acc import THRESHOLDS

_EDGES = np.append(THRESHOLDS, 1.0)


class PxAP:
    """The pixel-wise average precision of masks, over the pixels of all images together.

    Masks are stretched to [0, 1] (`min_max`; a constant one becomes zeros). With the precision P(t)
    and the recall R(t) of the pixels of at least t, and t falling from 1 by steps of 0.001 to 0,

        PxAP = sum over t of P(t) (R(t) - R(t + 0.001)),    R(1.001) = 0.
    """

    def __init__(self):
        # By truth, then by the largest threshold that a pixel reaches.
        self._pixels = np.zeros((2, len(_EDGES)), int)

    def accumulate(self, masks, truths):
        """Take in a batch: masks, float [B, H, W] in [0, 1], and true ones of the same shape.

        Of these a pixel is 0 or 1, of any type. Raises ValueError for anything else.
        """
        masks = checked_masks(masks)
        truths = checked_truths(truths, masks)
        for mask, truth in zip(masks, truths, strict=True):
            bins = _bins(min_max(mask)) + len(_EDGES) * truth
            counts = np.bincount(bins.ravel(), minlength=self._pixels.size)
            self._pixels += counts.reshape(self._pixels.shape)

    def precision_recall(self):
        """P and R, float [1001] each, t falling from 1 to 0; P is 1 where no pixel reaches t."""
        false, true = self._pixels[:, ::-1].cumsum(axis=1)
        if not true[-1]:
            raise ValueError("PxAP has seen no pixel of an object")
        return np.where(true + false, true / np.maximum(1, true + false), 1.0), true / true[-1]

    def curve(self):
        """R and P, float [n] each, at the thresholds that some pixel reaches, t falling.

        A threshold of 0, which takes everything, is left out where it is not the only one.
        """
        precision, recall = self.precision_recall()
        reached = self._pixels.sum(axis=0)[::-1].cumsum() > 0
        reached[-1] = not reached[-2]
        return recall[reached], precision[reached]

    def compute(self):
        """{"PxAP"}, in [0, 1]; ValueError if no true mask had a pixel."""
        precision, recall = self.precision_recall()
        # The sum of a perfect mask's shares may be rounded to more than 1.
        return {"PxAP": min(1.0, float(precision @ np.diff(recall, prepend=0)))}


def _bins(mask):
    """For each pixel the number of the last edge that it reaches, int [H, W]."""
    scaled = 1000 * mask
    bins = scaled.astype(int)
    # Rounding can only matter beside an edge; the search takes twenty times as long.
    beside = np.abs(scaled - np.rint(scaled)) < 1e-6
    bins[beside] = np.searchsorted(_EDGES, mask[beside], "right") - 1
    return bins
