"""The measures of salient-object detection, as the field's peers report them."""

import numpy as np

from casm_tf.evaluation.checks import checked_masks, checked_truths
from casm_tf.evaluation.means import Means

_EPSILON = np.spacing(1.0)


class SalientObject:
    """MAE, maximal F, S-measure, E-measure, IoU and accuracy of masks, means over images.

    The first four are those of PySODMetrics 1.6.2, of each mask stretched to [0, 1]; a constant one
    stays as it is. Thresholds are 0, 1/255 to 1, and a pixel that reaches one is salient:

        MAE:  mean of |m - truth|;
        maxF: (1 + b) P R / (b P + R) with b = 0.3, at the best threshold for all images together;
        S:    the structure measure of Fan et al. (2017), half of objects, half of regions;
        E:    the enhanced alignment of Fan et al. (2018), mean of the thresholds.

    The last two are SelfMask's (Shin et al. 2022, metrics/iou.py and metrics/pixel_acc.py), of the
    mask as it is, where more than 0.5 is salient:

        IoU:            intersection over union, 0 where neither mask has a pixel;
        pixel_accuracy: share of pixels that are right.

    F's curve is kept as a sum. Masks that were written to files of 8 bits first, as is usual in
    the field, may have another maxF, by 0.003 on ECSSD.
    """

    def __init__(self):
        self.means = Means()
        self._f_curve = np.zeros(256)

    def accumulate(self, masks, true_masks):
        """Take in a batch: masks, float [B, H, W] in [0, 1], and true ones of the same shape.

        Of these a pixel is 0 or 1, of any type. Raises ValueError for anything else.
        """
        masks = checked_masks(masks)
        truths = checked_truths(true_masks, masks)
        for mask, truth in zip(masks, truths, strict=True):
            salient = mask > 0.5
            union = np.count_nonzero(salient | truth)
            stretched = _stretched(mask)
            hits, alarms = _counts(stretched, truth)
            self._f_curve += _f(hits, alarms, truth)
            self.means.add(
                MAE=np.abs(stretched - truth).mean(),
                S=_structure(stretched, truth),
                E=_alignment(hits, alarms, truth).mean(),
                IoU=np.count_nonzero(salient & truth) / max(1, union),
                pixel_accuracy=np.mean(salient == truth),
            )

    def compute(self):
        """The six by their names, in [0, 1]; ValueError if there was no mask.

        E's sums are divided by one pixel less than there are, as in its authors' code: a mean above
        1, which images of fewer than 342 pixels may have, counts as 1.
        """
        if not self.means.images:
            raise ValueError("SalientObject has seen no mask")
        means = self.means.compute()
        return {
            "MAE": means["MAE"],
            "maxF": float(self._f_curve.max()) / self.means.images["MAE"],
            "S": means["S"],
            "E": min(1.0, means["E"]),
            "IoU": means["IoU"],
            "pixel_accuracy": means["pixel_accuracy"],
        }


def _stretched(mask):
    """A mask whose least and largest value are 0 and 1, float64; a constant one as it is."""
    mask = mask.astype(np.float64)
    extent = mask.max() - mask.min()
    return (mask - mask.min()) / extent if extent else mask


def _counts(mask, truth):
    """Salient pixels inside and outside the true mask, int [256] each, the threshold falling."""
    levels = (255 * mask).astype(int) + 256 * truth
    outside, inside = np.bincount(levels.ravel(), minlength=512).reshape(2, 256)
    return inside[::-1].cumsum(), outside[::-1].cumsum()


def _f(hits, alarms, truth):
    """F at each threshold; 0 where nothing of the object is found."""
    # (1 + b) P R / (b P + R) with P and R multiplied out, ten times above and below: of integers a
    # perfect mask's is exactly 1.
    return 13 * hits / np.maximum(1, 3 * truth.sum() + 10 * (hits + alarms))


def _alignment(hits, alarms, truth):
    """E at each threshold: of the four kinds of pixels, ((phi + 1) / 2)^2, summed."""
    size, of_object = truth.size, np.count_nonzero(truth)
    salient = hits + alarms
    if of_object == 0:
        total = size - salient
    elif of_object == size:
        total = salient
    else:
        mean, true_mean = salient / size, of_object / size
        total = 0
        for count, a, b in (
            (hits, 1 - mean, 1 - true_mean),
            (alarms, 1 - mean, -true_mean),
            (of_object - hits, -mean, 1 - true_mean),
            (size - of_object - alarms, -mean, -true_mean),
        ):
            phi = 2 * a * b / (a**2 + b**2 + _EPSILON)
            total = total + count * (phi + 1) ** 2 / 4
    return total / max(1, size - 1)


def _structure(mask, truth):
    """S of a mask: half of what is alike of object and ground, half of the four quarters."""
    share = truth.mean()
    if share == 0:
        return 1 - mask.mean()
    if share == 1:
        return mask.mean()
    objects = share * _object(mask[truth]) + (1 - share) * _object(1 - mask[~truth])
    # The quarters meet at the object's centre, which is of the first one.
    counts = truth.sum(axis=1), truth.sum(axis=0)
    y, x = (int(np.rint(np.arange(len(c)) @ c / c.sum())) + 1 for c in counts)
    regions = sum(
        _similarity(mask[rows, columns], truth[rows, columns]) * mask[rows, columns].size
        for rows in (slice(y), slice(y, None))
        for columns in (slice(x), slice(x, None))
        if mask[rows, columns].size  # not PySODMetrics's: there S would be NaN
    )
    return min(1, max(0, (objects + regions / mask.size) / 2))


def _object(values):
    """How close to 1 and how even the values of an object are, 0 to 1."""
    mean = values.mean()
    deviation = values.std(ddof=1) if values.size > 1 else 0
    return 2 * mean / (mean**2 + 1 + deviation + _EPSILON)


def _similarity(mask, truth):
    """SSIM of a part of a mask and of the true one, -1 to 1."""
    mean, true_mean = mask.mean(), truth.mean()
    pixels = mask.size - 1 + _EPSILON
    variances = ((mask - mean) ** 2).sum() / pixels + ((truth - true_mean) ** 2).sum() / pixels
    covariance = ((mask - mean) * (truth - true_mean)).sum() / pixels
    above = 4 * mean * true_mean * covariance
    below = (mean**2 + true_mean**2) * variances
    if above != 0:
        return above / (below + _EPSILON)
    return 1 if below == 0 else 0
