"""Top-1 accuracy on the images as they are and on what a mask leaves of them."""

import collections

import numpy as np


class Accuracy:
    """The share of images whose predicted class is their label, for each view of them."""

    def __init__(self):
        self._right = collections.Counter()
        self._images = collections.Counter()

    def accumulate(self, labels, **predictions):
        """Take in a batch: labels and, by the view's name, predicted classes, integers [B] all.

        `clean` is the image as it is; others are, say, `masked_in` and `masked_out`. Raises
        ValueError where predictions (or logits, given in their place) have not the labels' shape.
        """
        labels = np.asarray(labels)
        for view, classes in predictions.items():
            if np.shape(classes) != labels.shape:
                raise ValueError(
                    f"{view} is one class a label, {list(labels.shape)}; "
                    f"found shape {list(np.shape(classes))}"
                )
        for view, classes in predictions.items():
            self._right[view] += int(np.sum(classes == labels))
            self._images[view] += labels.size

    def compute(self):
        """{"top1": of the clean images, "top1_masked_in": ...}; ValueError if there was none."""
        if not self._images.total():
            raise ValueError("Accuracy has seen no prediction")
        return {
            "top1" if view == "clean" else f"top1_{view}": self._right[view] / images
            for view, images in self._images.items()
            if images
        }
