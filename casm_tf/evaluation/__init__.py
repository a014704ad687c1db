"""Evaluators: `accumulate(...)` once a batch, then `compute()` -> dict of floats.

They see masks, boxes, predicted classes and probabilities, never a network. They keep sums, and
of means what the first 100 images have: memory does not grow with the number of images, and how
these are batched does not change the result. What a network has to look at in between, crops and
perturbed images, functions make.
"""

from casm_tf.evaluation.accuracy import Accuracy
from casm_tf.evaluation.insertion_deletion import (
    InsertionDeletion,
    deletion_images,
    insertion_images,
)
from casm_tf.evaluation.localization_error import LocalizationEvaluator
from casm_tf.evaluation.mask_statistics import MaskStatistics
from casm_tf.evaluation.max_box_acc import THRESHOLDS, MaxBoxAcc
from casm_tf.evaluation.pointing_game import PointingGame
from casm_tf.evaluation.px_ap import PxAP
from casm_tf.evaluation.saliency_metric import SaliencyMetric, crop_to_boxes
from casm_tf.evaluation.salient_object import SalientObject

__all__ = [
    "THRESHOLDS",
    "Accuracy",
    "InsertionDeletion",
    "LocalizationEvaluator",
    "MaskStatistics",
    "MaxBoxAcc",
    "PointingGame",
    "PxAP",
    "SaliencyMetric",
    "SalientObject",
    "crop_to_boxes",
    "deletion_images",
    "insertion_images",
]
