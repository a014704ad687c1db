"""What masks look like, whatever they are of: how large, how varied, how sharp, how smooth."""

import numpy as np

from casm_tf.evaluation.checks import checked_masks
from casm_tf.evaluation.means import Means


class MaskStatistics:
    """Statistics of masks m over all the images seen.

        mask_mean:    mean of m, the share of an image that is salient;
        mask_std:     standard deviation of that share between images, ddof 1; 0 for one image;
        mask_entropy: mean of -m log2 m, in bits, 0 where m is 0;
        mask_tv:      mean of the squared differences between neighbours, down and right added.

    The original takes the standard deviation within each batch and averages those.
    """

    def __init__(self):
        self._images = 0
        self._mean = 0.0
        self._squared_deviations = 0.0
        self.means = Means()

    def accumulate(self, masks):
        """Take in a batch of masks, float [B, H, W] in [0, 1]; ValueError for anything else."""
        for mask in checked_masks(masks):
            mean, entropy, variation = _terms(np.asarray(mask, np.float64))
            self._images += 1
            # Welford's update: the difference of two large sums would lose digits.
            deviation = mean - self._mean
            self._mean += deviation / self._images
            self._squared_deviations += deviation * (mean - self._mean)
            self.means.add(mask_mean=mean, mask_entropy=entropy, mask_tv=variation)

    def compute(self):
        """{"mask_mean", "mask_std", "mask_entropy", "mask_tv"}; ValueError if there was no mask."""
        if not self._images:
            raise ValueError("MaskStatistics has seen no mask")
        variance = self._squared_deviations / max(1, self._images - 1)
        means = self.means.compute()
        return {
            "mask_mean": self._mean,
            "mask_std": variance**0.5,
            "mask_entropy": means["mask_entropy"],
            "mask_tv": means["mask_tv"],
        }


def _terms(mask):
    """The mean of a mask, its entropy in bits and its total variation."""
    logarithms = np.log2(mask, where=mask > 0, out=np.zeros_like(mask))
    differences = (mask[1:] - mask[:-1], mask[:, 1:] - mask[:, :-1])
    # A mask one pixel high or wide has no neighbours there.
    variation = sum(np.mean(x**2) for x in differences if x.size)
    return float(mask.mean()), float(-np.mean(mask * logarithms)), float(variation)
