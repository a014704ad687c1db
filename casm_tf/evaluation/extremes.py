"""The images of an evaluation that went best, and those that went worst."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SHOWN = 8  # of the best images, and of the worst


@dataclass(frozen=True, eq=False)
class Example:
    """An image and what was found on it.

    Attributes:
        image: uint8 [H, W, 3].
        mask: float [H, W] in [0, 1].
        boxes: integers [M, 4], the true ones, half-open x0, y0, x1, y1 in pixels.
        predicted_box: one like them, or None.
        caption: what it is and what it was taken for.
        f1, iou: the best over `boxes`, in [0, 1]; an iou of 0 where no box was predicted.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    predicted_box: Sequence[int] | None
    caption: str
    f1: float
    iou: float

    def __post_init__(self):
        if not (0 <= self.f1 <= 1 and 0 <= self.iou <= 1):
            raise ValueError(f"f1 and iou are in [0, 1]; found {self.f1} and {self.iou}")


def extremes(examples):
    """The 8 best and the 8 worst of the examples by IoU, then F1, sorted from best to worst.

    All of them if they are fewer. What is left out now would be left out later too, so examples
    can be taken in batch by batch: kept = extremes(kept + batch).
    """
    ordered = sorted(examples, key=lambda example: (example.iou, example.f1), reverse=True)
    return ordered if len(ordered) <= 2 * _SHOWN else ordered[:_SHOWN] + ordered[-_SHOWN:]
