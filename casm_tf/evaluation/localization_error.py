"""The paper's localization metrics: LE, OM and F1, as the original code scores them."""

import numpy as np

from casm_tf.evaluation.checks import checked_boxes, checked_masks
from casm_tf.evaluation.localization import box_of_mean, f1_of_mean, iou, mean_of
from casm_tf.evaluation.means import Means


class LocalizationEvaluator:
    """How well masks localize the objects of their images.

    Of an image's ground-truth boxes the best one counts, for each metric on its own:

        LE: share of images whose predicted box has an IoU of at most 0.5 with every box;
        OM: share of images that are mislocalized like that, or misclassified;
        F1: mean over images of the largest `continuous_f1`.

    Args:
        method, alpha: how a mask becomes a box, see `casm_tf.evaluation.localization.binarize`.
    """

    def __init__(self, method="volume", alpha=1.0):
        self.method = method
        self.alpha = alpha
        self.means = Means()

    def accumulate(self, masks, boxes, correct=None):
        """Take in a batch.

        `masks` are float [B, H, W] in [0, 1]; `boxes` one integer array [N, 4] an image, N >= 1, of
        half-open pixels x0, y0, x1, y1; `correct` bool [B], whether the image is classified right,
        is given for every batch or for none. Raises ValueError for anything else.
        """
        masks = checked_masks(np.asarray(masks, np.float32))
        boxes = checked_boxes(boxes, masks)
        if correct is not None and np.shape(correct) != (len(masks),):
            raise ValueError(
                f"correct is [{len(masks)}], one an image; found shape {list(np.shape(correct))}"
            )
        for index, (mask, image_boxes) in enumerate(zip(masks, boxes, strict=True)):
            image_boxes = image_boxes.tolist()
            mean = mean_of(mask)
            predicted = box_of_mean(mask, mean, self.method, self.alpha)
            hit = predicted is not None and any(iou(predicted, box) > 0.5 for box in image_boxes)
            f1 = max(f1_of_mean(mask, mean, box) for box in image_boxes)
            self.means.add(LE=not hit, F1=f1)
            if correct is not None:
                self.means.add(OM=not (hit and correct[index]))

    def compute(self):
        """{"LE", "F1"}, and "OM" if `correct` was given; ValueError if there was no image."""
        images, classified = self.means.images["LE"], self.means.images["OM"]
        if not images:
            raise ValueError("LocalizationEvaluator has seen no image")
        if classified not in (0, images):
            raise ValueError(f"correct was given for {classified} of {images} images")
        return self.means.compute()
