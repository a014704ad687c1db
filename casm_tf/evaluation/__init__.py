"""Evaluators: `accumulate(...)` once a batch, then `compute()` -> dict of floats.

They see masks, boxes and predicted classes, never a network. They keep sums only: memory does not
grow with the number of images, and how these are batched does not change the result.
"""

from casm_tf.evaluation.accuracy import Accuracy
from casm_tf.evaluation.localization_error import LocalizationEvaluator
from casm_tf.evaluation.mask_statistics import MaskStatistics

__all__ = ["Accuracy", "LocalizationEvaluator", "MaskStatistics"]
