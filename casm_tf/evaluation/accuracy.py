"""Top-1 accuracy on the images as they are and on what a mask leaves of them."""

import numpy as np

from casm_tf.evaluation.means import Means


class Accuracy:
    """The share of images whose predicted class is their label, for each view of them."""

    def __init__(self):
        self.means = Means()

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
            name = "top1" if view == "clean" else f"top1_{view}"
            self.means.add(**{name: np.equal(classes, labels)})

    def compute(self):
        """{"top1": of the clean images, "top1_masked_in": ...}; ValueError if there was none."""
        if not self.means.images:
            raise ValueError("Accuracy has seen no prediction")
        return self.means.compute()
