"""What evaluators are given, looked at before anything is counted."""

import numpy as np


class OutOfRangeError(ValueError):
    """Masks or probabilities that are NaN or outside of [0, 1], such as a broken model's."""


def checked_masks(masks):
    """The masks as an array [B, H, W]; ValueError if they are not, or not in [0, 1]."""
    masks = np.asarray(masks)
    if masks.ndim != 3 or 0 in masks.shape[1:]:
        raise ValueError(f"masks are [batch, height, width]; found shape {list(masks.shape)}")
    # NaN is the least and the largest value where there is one.
    if len(masks) and not (masks.min() >= 0 and masks.max() <= 1):
        found = f"{masks.min():g} to {masks.max():g}"
        raise OutOfRangeError(f"a mask's values are in [0, 1]; found {found}")
    return masks


def checked_truths(truths, masks):
    """True masks as bool, of the masks' shape; ValueError if they are not that, or not 0 or 1."""
    truths = np.asarray(truths)
    if truths.shape != masks.shape:
        raise ValueError(
            f"true masks are {list(masks.shape)} like the masks; found {list(truths.shape)}"
        )
    if not np.all((truths == 0) | (truths == 1)):
        raise ValueError(f"true masks are 0 or 1; found {np.min(truths):g} to {np.max(truths):g}")
    return truths.astype(bool)


def checked_boxes(boxes, masks):
    """The boxes, int64 [N, 4] for each mask, N >= 1; ValueError if they are not that."""
    boxes = [np.asarray(image_boxes) for image_boxes in boxes]
    if masks.ndim != 3 or len(masks) != len(boxes):
        raise ValueError(
            "masks are [batch, height, width] with boxes for each; "
            f"found shape {list(masks.shape)} and boxes for {len(boxes)}"
        )
    for image_boxes in boxes:
        shape, dtype = image_boxes.shape, image_boxes.dtype
        if len(shape) != 2 or shape[0] < 1 or shape[1] != 4 or dtype.kind not in "iu":
            raise ValueError(
                "an image's boxes are integers [N, 4] with N of at least 1; "
                f"found {dtype} {list(shape)}"
            )
    return [image_boxes.astype(np.int64) for image_boxes in boxes]


def checked_probabilities(probabilities, shape, what):
    """Probabilities as float64; ValueError if they are not in [0, 1] or not of the shape.

    None in `shape` stands for any length; `what` is their name in the message.
    """
    probabilities = np.asarray(probabilities, np.float64)
    found = probabilities.shape
    if len(found) != len(shape) or any(
        a not in (None, b) for a, b in zip(shape, found, strict=True)
    ):
        raise ValueError(f"{what} are of shape {list(shape)}; found {list(found)}")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise OutOfRangeError(
            f"{what} are in [0, 1]; found {probabilities.min():g} to {probabilities.max():g}"
        )
    return probabilities
