"""The saliency metric of Dabkowski and Gal (2017): is a small crop enough for the classifier?"""

import cv2
import numpy as np

from casm_tf.evaluation.checks import checked_probabilities
from casm_tf.evaluation.means import Means

SMALLEST_AREA = 0.05


class SaliencyMetric:
    """The mean over images of log max(a, 0.05) - log p; lower is better, and it may be negative.

    a is the share of the image that the predicted box covers, p the probability of the true class
    on the crop of that box (`crop_to_boxes`). A p of 0, as float32 gives it, counts as float32's
    smallest normal number, 1.2e-38. An uninformative box, the whole image, scores -log p of the
    image as it is.
    """

    def __init__(self):
        self.means = Means()

    def accumulate(self, areas, probabilities):
        """Take in a batch: a and p, float [B] in [0, 1]; ValueError for anything else."""
        areas = checked_probabilities(areas, (None,), "areas")
        probabilities = checked_probabilities(probabilities, areas.shape, "probabilities")
        seen = np.maximum(probabilities, np.finfo(np.float32).tiny)
        self.means.add(saliency_metric=np.log(np.maximum(areas, SMALLEST_AREA)) - np.log(seen))

    def compute(self):
        """{"saliency_metric"}, of any sign; ValueError if there was no image."""
        if not self.means.images:
            raise ValueError("SaliencyMetric has seen no image")
        return self.means.compute()


def crop_to_boxes(images, boxes):
    """The boxes' parts of images, resized (bilinear) to the whole, and their share of the area.

    `images` are float32 [B, H, W, 3]; `boxes` B half-open boxes x0, y0, x1, y1 inside the image, as
    of `predict_box`: None, where nothing is salient, stands for the whole image. Returns crops,
    float32 [B, H, W, 3], and areas, float64 [B]. Raises ValueError for anything else.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or len(images) != len(boxes):
        raise ValueError(
            "images are [batch, height, width, 3] with a box or None for each; "
            f"found shape {list(images.shape)} and {len(boxes)} boxes"
        )
    height, width = images.shape[1:3]
    crops, areas = np.empty_like(images), np.empty(len(images))
    for index, box in enumerate(boxes):
        x0, y0, x1, y1 = (0, 0, width, height) if box is None else box
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"a box is inside the image of {width}x{height}; found {tuple(box)}")
        crops[index] = cv2.resize(images[index, y0:y1, x0:x1], (width, height))
        areas[index] = (x1 - x0) * (y1 - y0) / (width * height)
    return crops, areas
