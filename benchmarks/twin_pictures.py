"""Pictures beside their own copies, and what of a mask is on either side (two_halves.py)."""

import numpy as np
import tensorflow as tf

from casm_tf.evaluation import localization


def squeezed(images):
    """At half the width, each two neighbouring columns their mean: [B, H, W, C], W even."""
    return (images[:, :, 0::2] + images[:, :, 1::2]) / 2


def beside(images, view):
    """Two squeezed pictures side by side, float32 [B, H, W, 3] as the images.

    The half at which `view` looks, "left", "right" or "both", shows the image (the label is its
    own); the other one shows the image before it in the batch, at random if the batch is shuffled.
    "both" makes twin pictures.
    """
    halves = squeezed(images)
    others = tf.roll(halves, 1, axis=0)
    left = others if view == "right" else halves
    right = others if view == "left" else halves
    return tf.concat([left, right], axis=2)


def shares(masks):
    """The parts of each mask's sum that lie in the left and the right half: [B, H, W] -> [B, 2].

    Both are 0 where the mask is.
    """
    masks = np.asarray(masks, np.float64)
    sums = np.stack([half.sum(axis=(1, 2)) for half in np.split(masks, 2, axis=2)], axis=1)
    totals = sums.sum(axis=1, keepdims=True)
    return np.divide(sums, totals, where=totals > 0, out=np.zeros_like(sums))


def hits(mask, boxes):
    """Whether the mask [H, W] finds an object of a twin picture in its left and its right half.

    `boxes` [N, 4] are those of the picture before it was squeezed. The mask is binarized as a
    whole, so that a half in which it is faint has nothing.
    """
    x0, y0, x1, y1 = np.transpose(boxes)
    narrow = np.stack([x0 // 2, y0, -(-x1 // 2), y1], axis=1).tolist()
    found = []
    for half in np.split(localization.binarize(mask), 2, axis=1):
        # A mask of zeros and ones is binarized to itself.
        predicted = localization.predict_box(half.astype(np.float32))
        found.append(
            predicted is not None and any(localization.iou(predicted, box) > 0.5 for box in narrow)
        )
    return found
