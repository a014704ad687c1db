"""All that is measured of one method's masks: the evaluators, fed with what classifiers say."""

import dataclasses

import numpy as np
import tensorflow as tf

from casm_tf import evaluation, objectives
from casm_tf.evaluation import localization


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Images and all that is known of them, as `input_pipeline.evaluation_batches` yields it.

    Attributes:
        images: float32 [B, H, W, 3], normalised.
        labels: integers [B]; of images without a label what the judge takes them for.
        boxes: B integer arrays [N, 4] of half-open x0, y0, x1, y1; an image may have none.
        masks: bool [B, H, W], the true ones, or None.
        has_mask: bool [B], which images have one.
        classes: integers [B], what the classifier whose accuracy counts takes the images for.
        judged: integers [B], what the judge takes them for.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: list
    masks: np.ndarray | None
    has_mask: np.ndarray | None
    classes: np.ndarray
    judged: np.ndarray

    @classmethod
    def of(cls, batch, classify, judge):
        """From a dict of tensors and the two classifiers of `Scores`."""
        batch = {name: value.numpy() for name, value in batch.items()}
        boxes = [some[:n] for some, n in zip(batch["boxes"], batch["box_counts"], strict=True)]
        judged = judge(batch["images"]).argmax(-1)
        return cls(
            images=batch["images"],
            labels=np.where(batch["labels"] < 0, judged, batch["labels"]),
            boxes=boxes,
            masks=batch.get("masks"),
            has_mask=batch.get("has_mask"),
            classes=classify(batch["images"]).argmax(-1),
            judged=judged,
        )


class Scores:
    """The measures of one method's masks; images without a box or a true mask count where they can.

    Args:
        classify: images float32 [B, H, W, 3] -> logits float [B, K], of the classifier whose
            accuracy counts, with and without what is salient.
        judge: the same of a classifier that was never trained on masked images: it says what crops
            and images with more and more pixels are worth (saliency metric, insertion, deletion).
        alpha: of the rule "alpha times the mean" for boxes.
        perturbation_steps: of insertion and deletion; with 0 they are left out.
    """

    def __init__(self, classify, judge, alpha=1.0, perturbation_steps=0):
        self._classify = classify
        self._judge = judge
        self.perturbation_steps = perturbation_steps
        self.accuracy = evaluation.Accuracy()
        self.statistics = evaluation.MaskStatistics()
        self.localization = evaluation.LocalizationEvaluator()
        self.mean_rule = evaluation.LocalizationEvaluator("mean", alpha)
        self.max_box_acc = evaluation.MaxBoxAcc()
        self.pointing_game = evaluation.PointingGame()
        self.saliency_metric = evaluation.SaliencyMetric()
        self.px_ap = evaluation.PxAP()
        self.salient_object = evaluation.SalientObject()
        self.perturbation = evaluation.InsertionDeletion()
        self.has_boxes = self.has_masks = False

    def accumulate(self, batch, masks):
        """Take in a `Batch` and this method's masks, float32 [B, H, W] in [0, 1]."""
        images, labels = batch.images, batch.labels
        self.statistics.accumulate(masks)
        views = {
            "masked_in": objectives.masked_in(images, masks[..., None]),
            "masked_out": objectives.masked_out(images, masks[..., None]),
        }
        seen = {view: self._classify(some).argmax(-1) for view, some in views.items()}
        self.accuracy.accumulate(labels, clean=batch.classes, **seen)

        with_box = np.flatnonzero([len(boxes) for boxes in batch.boxes])
        if with_box.size:
            self.has_boxes = True
            boxed = (masks[with_box], [batch.boxes[index] for index in with_box])
            right = batch.classes[with_box] == labels[with_box]
            self.localization.accumulate(*boxed, right)
            self.mean_rule.accumulate(*boxed, right)
            self.max_box_acc.accumulate(*boxed)
            self.pointing_game.accumulate(*boxed)
        if batch.masks is not None and batch.has_mask.any():
            truths = batch.masks[batch.has_mask]
            self.has_masks |= bool(truths.any())  # PxAP is of objects' pixels
            self.px_ap.accumulate(masks[batch.has_mask], truths)
            self.salient_object.accumulate(masks[batch.has_mask], truths)

        predicted = [localization.predict_box(mask) for mask in masks]
        crops, areas = evaluation.crop_to_boxes(images, predicted)
        self.saliency_metric.accumulate(areas, self._probabilities(crops, labels))
        if self.perturbation_steps:
            curves = (
                [
                    self._probabilities(changed, batch.judged)
                    for changed in change(images, masks, self.perturbation_steps)
                ]
                for change in (evaluation.insertion_images, evaluation.deletion_images)
            )
            self.perturbation.accumulate(*(np.stack(curve, axis=1) for curve in curves))

    def compute(self):
        """{measure: number}, of those for which there was anything."""
        measures = [self.accuracy, self.statistics, self.saliency_metric]
        if self.has_boxes:
            measures += [self.localization, self.max_box_acc, self.pointing_game]
        if self.has_masks:
            measures += [self.px_ap, self.salient_object]
        if self.perturbation_steps:
            measures.append(self.perturbation)
        results = {key: value for measure in measures for key, value in measure.compute().items()}
        if self.has_boxes:
            mean_rule = self.mean_rule.compute()
            results |= {"LE_mean_rule": mean_rule["LE"], "OM_mean_rule": mean_rule["OM"]}
        return results

    def first(self):
        """{measure: the values of the first images}, as `means.Means` keeps them.

        MaxBoxAcc, PxAP, the maximal F and the masks' deviation are no means over images.
        """
        measures = (self.accuracy, self.statistics, self.saliency_metric, self.localization)
        measures += (self.pointing_game, self.salient_object, self.perturbation)
        found = {key: values for one in measures for key, values in one.means.first.items()}
        mean_rule = self.mean_rule.means.first
        return found | {f"{key}_mean_rule": mean_rule[key] for key in ("LE", "OM") if mean_rule}

    def _probabilities(self, images, classes):
        """What the judge gives each image's class, float [B]."""
        probabilities = tf.nn.softmax(self._judge(images)).numpy()
        return probabilities[np.arange(len(classes)), classes]
