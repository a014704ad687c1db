"""Several methods' masks on the same images: who is better, at what cost, and how it looks."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from casm_tf import evaluation, pretrained
from casm_tf.choices import COMPARED, PRETRAINED
from casm_tf.evaluation import (
    baselines,
    extremes,
    localization,
    means,
    method_scores,
    other_classifiers,
)
from casm_tf.host import files

_SHOWN = ("casm", "cam", "grad_cam")  # whose masks are shown beside each other
_PICTURES = 7  # of them, as in the paper's Figure 2


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to make masks.

    Attributes:
        masks: images float32 [B, H, W, 3] and the classes that they are taken for, integers [B] ->
            masks float32 [B, H, W] in [0, 1].
        forward_passes: what that takes of a classifier.
    """

    masks: Callable
    forward_passes: int

    @classmethod
    def of_model(cls, model):
        """A mask model's own masks; it needs no class. `model` gives {"mask", "logits"}."""
        masks = _output(model, "mask")
        return cls(lambda images, _: masks(images)[..., 0], 1)

    @classmethod
    def pretrained(cls, image_size, mean, std):
        """The masks of the model that comes with the package, for images normalised by mean, std.

        Raises ValueError where it takes no images of that size, OSError where it is not there.
        """
        if image_size % 32:
            raise ValueError(
                f"{PRETRAINED} takes images of a multiple of 32 pixels; found {image_size}"
            )
        with files.literal(pretrained.MODEL) as literal:
            model = tf.saved_model.load(str(literal))
        look = model.signatures["serving_default"]
        if look.structured_input_signature[1]["images"].shape[1] != image_size:
            look = model.signatures["any_size"]

        def masks(images, _, model=model):  # which has to live as long as its signatures
            pixels = np.round((images * np.float32(std) + np.float32(mean)) * 255)
            return look(images=tf.constant(pixels, tf.float32))["mask"].numpy()[..., 0]

        return cls(masks, 1)

    @classmethod
    def named(cls, name, classifier):
        """One of `COMPARED`; a map explains what `classifier` says. ValueError for another name."""
        if name in baselines.METHODS:
            explain = baselines.METHODS[name]
            masks = lambda images, classes: explain(classifier, images, classes)  # noqa: E731
        elif name in COMPARED:
            mask = getattr(baselines, name)
            masks = lambda images, _: np.stack([mask(*images.shape[1:3])] * len(images))  # noqa: E731
        else:
            raise ValueError(f"expected some of {', '.join(COMPARED)}; found {name!r}")
        return cls(masks, baselines.FORWARD_PASSES[name])


class Comparison:
    """The scores of several methods, batch by batch.

    Args:
        dataset: the `Dataset` of the images.
        methods: {name: `Method`}; "casm" is one of them.
        classifier: the mask model's, {"logits", ...}: its accuracy counts.
        judge: one that was never trained on masked images, as `method_scores.Scores` needs it.
        observers: {name: images -> classes}, other classifiers that look at the masks (Figure 3).
        alpha, perturbation_steps: of `method_scores.Scores`.
    """

    def __init__(
        self, dataset, methods, classifier, judge, observers, alpha=1.0, perturbation_steps=0
    ):
        self.dataset = dataset
        self.methods = methods
        self.observers = observers
        self.classify, self.judge = _output(classifier, "logits"), _output(judge, "logits")
        self.scores = {
            name: method_scores.Scores(self.classify, self.judge, alpha, perturbation_steps)
            for name in methods
        }
        self.observed = {
            name: {observer: evaluation.Accuracy() for observer in observers} for name in methods
        }
        self.before = evaluation.Accuracy()
        self.seconds = dict.fromkeys(methods, 0.0)
        # What `figures.pictures_and_masks` draws, of the first batch.
        self.first = {"images": (), "masks": {}, "boxes": (), "captions": ()}
        self.images, self.examples = 0, []
        self._true_box_areas, self._labelled = [], 0

    def accumulate(self, batch):
        """Take in a batch of `input_pipeline.evaluation_batches`."""
        is_labelled = batch["labels"].numpy() >= 0
        batch = method_scores.Batch.of(batch, self.classify, self.judge)
        captions = self._captions(batch, is_labelled)
        shown = self.dataset.denormalise(batch.images)
        # Without a label an image counts as what the judge says.
        self.before.accumulate(batch.labels[is_labelled], clean=batch.judged[is_labelled])
        self._labelled += int(is_labelled.sum())
        self._true_box_areas += [
            localization.share_in_boxes(boxes, shown.shape[1:3])
            for boxes in batch.boxes
            if len(boxes)
        ]
        for name, method in self.methods.items():
            if not self.images:
                method.masks(batch.images, batch.judged)  # Tracing and compiling do not count.
            started = time.perf_counter()
            masks = method.masks(batch.images, batch.judged)
            self.seconds[name] += time.perf_counter() - started
            self.scores[name].accumulate(batch, masks)
            if self.observers:
                other_classifiers.accumulate(
                    *(self.observers, self.observed[name]),
                    *(batch.images, batch.labels, masks, self.dataset),
                )
            if name == "casm":
                found = self._examples(batch, shown, masks, captions)
                self.examples = extremes.extremes(self.examples + found)
            if name in _SHOWN and not self.images:
                self.first["masks"][name] = masks[:_PICTURES]
        if not self.images:
            first = {"images": shown, "boxes": batch.boxes, "captions": captions}
            self.first |= {key: some[:_PICTURES] for key, some in first.items()}
        self.images += len(shown)

    def compute(self):
        """{method: {measure: number}}, and under "classifiers" what each observer says.

        Of fewer than `means.FEW` images there are standard errors, {measure: number}, too.
        """
        results = {name: scores.compute() for name, scores in self.scores.items()}
        for name, values in results.items():
            values["forward_passes"] = self.methods[name].forward_passes
            values["seconds_per_image"] = self.seconds[name] / self.images
            if self.observers:
                values["classifiers"] = {
                    observer: accuracy.compute()
                    for observer, accuracy in self.observed[name].items()
                }
        if self._labelled:
            results["casm"]["top1_before"] = self.before.compute()["top1"]
        if self._true_box_areas:
            results["casm"]["true_box_area"] = float(np.median(self._true_box_areas))
        if self.images < means.FEW:
            self._add_errors(results)
        return results

    def curves(self):
        """What `report.write_report` draws, by its names."""
        boxed = {name: scores for name, scores in self.scores.items() if scores.has_boxes}
        masked = {name: scores for name, scores in self.scores.items() if scores.has_masks}
        perturbed = {name: s for name, s in self.scores.items() if s.perturbation_steps}
        return {
            "threshold_curves": {
                name: (evaluation.THRESHOLDS, scores.max_box_acc.localization_errors())
                for name, scores in boxed.items()
            },
            "precision_recall": {name: scores.px_ap.curve() for name, scores in masked.items()},
            "perturbation": {name: s.perturbation.curves() for name, s in perturbed.items()},
        }

    def _add_errors(self, results):
        """Standard errors of the means over images, and of how much they differ from CASM's.

        A difference is taken image by image, as all methods see the same ones: what makes an image
        hard for both does not count. What is no mean, such as PxAP, has none.
        """
        values = {name: scores.first() for name, scores in self.scores.items()}
        values["casm"]["top1_before"] = self.before.means.first["top1"]
        for name, found in results.items():
            own = {k: v for k, v in values[name].items() if k in found and len(v) > 1}
            found["standard_error"] = {key: means.standard_error(v) for key, v in own.items()}
            if name != "casm":
                found["standard_error_of_difference"] = {
                    key: means.standard_error(np.subtract(v, values["casm"][key]))
                    for key, v in own.items()
                }

    def _captions(self, batch, is_labelled):
        """What each image is, if that is known, and what it is taken for."""
        captions = []
        for label, found, known in zip(batch.labels, batch.classes, is_labelled, strict=True):
            is_right = known and label == found
            words = f"classified {'right' if is_right else f'as {self.dataset.labels[found]}'}"
            captions.append(f"{self.dataset.labels[label]}, {words}" if known else words)
        return captions

    def _examples(self, batch, shown, masks, captions):
        """The images with a box, each with its scores."""
        examples = []
        for index, boxes in enumerate(batch.boxes):
            if len(boxes):
                mask, predicted = masks[index], localization.predict_box(masks[index])
                ious = [localization.iou(predicted, box) for box in boxes if predicted] or [0.0]
                examples.append(
                    extremes.Example(
                        image=shown[index],
                        mask=mask,
                        boxes=boxes,
                        predicted_box=predicted,
                        caption=captions[index],
                        f1=max(localization.continuous_f1(mask, box) for box in boxes),
                        iou=max(ious),
                    )
                )
        return examples


def _output(model, name):
    """Images -> one of the outputs of a model that gives several, as numpy; traced once."""
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    output = tf.function(lambda x: model(x, training=False)[name], input_signature=[images])
    return lambda x: output(x).numpy()
