"""Insertion and deletion of Petsiuk et al. (2018, RISE): does the mask know what matters first?"""

import itertools

import cv2
import numpy as np

from casm_tf.evaluation.checks import checked_masks, checked_probabilities
from casm_tf.evaluation.means import Means


class InsertionDeletion:
    """Areas under the class's probability while an image comes and goes, the most salient first.

    The probabilities p_0, ..., p_n are those of the steps of `insertion_images` (higher is better)
    and `deletion_images` (lower is better); the area, in [0, 1], is the trapezoid rule's:

        (p_0 / 2 + p_1 + ... + p_{n-1} + p_n / 2) / n,    and its mean over images.
    """

    def __init__(self):
        self.means = Means()
        self._sums = None

    def accumulate(self, insertion, deletion):
        """Take in a batch: probabilities at the steps, float [B, n + 1] in [0, 1], n >= 1.

        All batches have the same n. Raises ValueError for anything else.
        """
        shape = (None, None) if self._sums is None else (None, self._sums.shape[1])
        insertion = checked_probabilities(insertion, shape, "insertion's probabilities")
        deletion = checked_probabilities(deletion, insertion.shape, "deletion's probabilities")
        if insertion.shape[1] < 2:
            raise ValueError(f"a curve has at least 2 steps; found {list(insertion.shape)}")
        sums = np.stack([insertion.sum(axis=0), deletion.sum(axis=0)])
        self._sums = sums if self._sums is None else self._sums + sums
        self.means.add(insertion=_areas(insertion), deletion=_areas(deletion))

    def curves(self):
        """{"insertion": float [n + 1], "deletion": ...}, means over images."""
        images = self.means.images["insertion"]
        if not images:
            raise ValueError("InsertionDeletion has seen no image")
        return dict(zip(("insertion", "deletion"), self._sums / images, strict=True))

    def compute(self):
        """{"insertion", "deletion"}, areas in [0, 1]; ValueError if there was no image."""
        return {name: float(_areas(curve)) for name, curve in self.curves().items()}


def _areas(curves):
    """Under curves [..., n + 1], by the trapezoid rule, with n steps as 1."""
    return np.trapezoid(curves) / (np.shape(curves)[-1] - 1)


def deletion_images(images, masks, steps):
    """Yields images [B, H, W, 3], `steps` + 1 times, while more and more of them is taken away.

    After step k of n the floor(k H W / n) most salient pixels are 0, the data set's mean in
    normalised images: none at first, all at last. Of equally salient ones the first in reading
    order. RISE takes 224 steps for 224x224 pixels. `images` are float32 [B, H, W, 3], `masks` float
    [B, H, W] in [0, 1]. Raises ValueError for anything else, and for steps not in 1 to H W.
    """
    images = np.asarray(images, np.float32)
    return _replaced(images, np.zeros_like(images), *_checked(images, masks, steps))


def insertion_images(images, masks, steps):
    """Yields images [B, H, W, 3], `steps` + 1 times, while more and more of them is restored.

    As `deletion_images`, but from a blurred image to the image as it is. The blur is a Gaussian of
    11x11 pixels and a deviation of 5; outside the image is the mean.
    """
    images = np.asarray(images, np.float32)
    arguments = _checked(images, masks, steps)
    blurred = [
        cv2.GaussianBlur(image, (11, 11), 5, borderType=cv2.BORDER_CONSTANT) for image in images
    ]
    blurred = np.array(blurred, np.float32).reshape(images.shape)
    return _replaced(blurred, images, *arguments)


def _checked(images, masks, steps):
    """The masks and steps, before a generator would look at them too late."""
    masks = checked_masks(masks)
    if images.shape != (*masks.shape, 3):
        raise ValueError(
            f"images are {[*masks.shape, 3]} for masks {list(masks.shape)}; "
            f"found {list(images.shape)}"
        )
    pixels = masks[0].size if len(masks) else steps
    if not 1 <= steps <= pixels:
        raise ValueError(f"steps are 1 to {pixels}, the number of pixels; found {steps}")
    return masks, steps


def _replaced(start, end, masks, steps):
    """`start`, then with more and more pixels of `end`; a copy each, to be kept or changed."""
    batch, height, width, channels = start.shape
    pixels = height * width
    # In floats: minus a uint8 of 1 is 255, and of bool there is none.
    falling = np.negative(masks.reshape(batch, pixels), dtype=np.float64)
    order = np.argsort(falling, axis=1, kind="stable")
    current, end = (part.reshape(batch, pixels, channels).copy() for part in (start, end))
    yield start.copy()
    counts = [step * pixels // steps for step in range(steps + 1)]
    for first, last in itertools.pairwise(counts):
        chosen = order[:, first:last, None]
        np.put_along_axis(current, chosen, np.take_along_axis(end, chosen, axis=1), axis=1)
        yield current.reshape(start.shape).copy()
