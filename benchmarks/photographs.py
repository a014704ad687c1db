"""Masks of photographs by several methods, scored on several sets.

    python -m benchmarks.photographs --image_dir=caltech101 \
        --classifier_weights=efficientnet_lite0.weights.h5 \
        --choice=pets:PETS --sets=raccoons:RACCOONS,birds:BIRDS

A set is NAME:FOLDER; the folder holds images/ and boxes.csv or annotations/ (VOC's XML) and, where
there are any, masks/ (PNGs). All pictures are squashed to the networks' size.

Trained, on --image_dir, are the rows that are not in --runs_dir yet: L100 (what
configs/photographs.flags says), L, and F with the original's lambda_R and those of --f_lambdas; of
these F_tuned is the one with the lowest LE on the set --choice, which is not reported. A broken-off
call resumes. CAM and Grad-CAM explain the same classifier before the alternation. The last line is
{set: {method: {"LE", "F1", "mask_mean"}}}, and with masks PxAP and the measures of `SalientObject`.
"""

import json
import pathlib

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import runs
from casm_tf import evaluation, networks, pretrained
from casm_tf.cli import program
from casm_tf.data import input_pipeline
from casm_tf.evaluation.comparison import Method

FLAGS = flags.FLAGS

flags.DEFINE_string("image_dir", None, "The pictures that the rows are trained on.")
flags.DEFINE_string(
    "classifier_weights", None, "The classifier before the alternation.", required=True
)
flags.DEFINE_list("sets", None, "What is scored: NAME:FOLDER, ...", required=True)
flags.DEFINE_string("choice", None, "The set that F_tuned's lambda_R is chosen on: NAME:FOLDER.")
flags.DEFINE_list("f_lambdas", ["5", "7.5"], "Of F, tried beside the original's 2.5.")
flags.DEFINE_list("rows", ["L100", "L", "F"], "What is trained, of L100, L and F.")
flags.DEFINE_integer("steps", None, "Of every training; by default the flagfile's.", lower_bound=1)
flags.DEFINE_string("runs_dir", "runs/photographs", "Where the runs go; those there count.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets.")
flags.DEFINE_integer("batch_size", 32, "Pictures a forward pass.", lower_bound=1)

_FLAGFILE = "configs/photographs.flags"
_CLASSIFIER = "efficientnet_lite0"
_ORIGINAL_LAMBDA = "2.5"  # of F with score E
_MEASURES = ("LE", "F1", "mask_mean", "PxAP", "MAE", "maxF", "S", "E", "IoU", "pixel_accuracy")


def main():
    with program.blaming("sets"):
        sets = {name: opened(folder) for name, folder in map(_parted, FLAGS.sets)}
    with program.blaming("choice"):
        choice = opened(_parted(FLAGS.choice)[1]) if FLAGS.choice else None
    with program.blaming("classifier_weights"):
        size, labels = 224, pretrained.imagenet_labels()
        before = networks.classifier(_CLASSIFIER, size, len(labels))
        networks.load_weights(before, FLAGS.classifier_weights)
    methods = {name: run_of(name) for name in FLAGS.rows if name != "F"}
    if "F" in FLAGS.rows:
        lambdas = [_ORIGINAL_LAMBDA, *FLAGS.f_lambdas]
        baselines = {f"F_{weight}": run_of("F", weight) for weight in lambdas}
        methods["F"] = baselines[f"F_{_ORIGINAL_LAMBDA}"]
        if choice:
            errors = {name: row["LE"] for name, row in scored(choice, baselines).items()}
            best = min(errors, key=errors.get)
            print(f"F tuned is {best}: LE on {FLAGS.choice} {errors}")
            methods["F_tuned"] = baselines[best]
    if (pretrained.MODEL / "saved_model.pb").exists():
        shipped = Method.pretrained(size, *networks.normalisation(_CLASSIFIER))
        methods = {"shipped": shipped, **methods}
    others = ("cam", "grad_cam", "centre_box", "full_image")
    methods |= {name: Method.named(name, before) for name in others}
    classify = tf.function(lambda images: before(images, training=False)["logits"])
    results = {name: scored(some, methods, classify) for name, some in sets.items()}
    for name, rows in results.items():
        print(f"\n{name:16}" + "".join(f"{measure:>15}" for measure in _MEASURES))
        for row, values in rows.items():
            found = (f"{values[key]:15.3f}" if key in values else " " * 15 for key in _MEASURES)
            print(f"{row:16}" + "".join(found))
    print(json.dumps(results))


def opened(folder):
    """The `Dataset` of a set's folder, normalised as the classifier expects."""
    folder = pathlib.Path(folder)
    boxes = [path for path in (folder / "boxes.csv", folder / "annotations") if path.exists()]
    if not boxes:
        raise ValueError(f"{folder} has neither boxes.csv nor annotations/")
    settings = {
        "dataset": "image_folder",
        "data_dir": FLAGS.data_dir,
        "image_dir": str(folder / "images"),
        "boxes": str(boxes[0]),
        "masks": str(folder / "masks") if (folder / "masks").exists() else None,
        "targets": "predictions",
        "classifier": _CLASSIFIER,
    }
    return input_pipeline.of_all_classes(settings)


def run_of(thinning, lambda_size=None):
    """The `Method` of a run, trained first where it is not there."""
    name = thinning if lambda_size is None else f"{thinning}_{lambda_size}"
    run_dir = pathlib.Path(FLAGS.runs_dir) / name
    if not FLAGS.image_dir and not (run_dir / "model.keras").exists():
        raise program.UserError(f"--image_dir: {run_dir} is to be trained; found no folder")
    given = {
        "flagfile": _FLAGFILE,
        "image_dir": FLAGS.image_dir,
        "classifier_weights": FLAGS.classifier_weights,
        "data_dir": FLAGS.data_dir,
        "steps": FLAGS.steps,
        "lambda_size": lambda_size,
        # The flagfile's first lambda_R would leave nothing of F's mask.
        "first_lambda_steps": None if lambda_size is None else 0,
        # The flagfile's own thinning is L100's share of its steps.
        "thinning": None if thinning == "L100" else thinning,
    }
    return Method.of_model(runs.model_of(run_dir, given))


def scored(dataset, methods, classify=None):
    """{method: {measure: number}} over all pictures of a set; a map explains what is predicted."""
    scores = {
        name: [
            *(evaluation.LocalizationEvaluator(), evaluation.MaskStatistics()),
            *(evaluation.PxAP(), evaluation.SalientObject()),
        ]
        for name in methods
    }
    has_masks = False
    for split in dataset.builder.info.splits:
        batches = input_pipeline.evaluation_batches(dataset, split, FLAGS.batch_size, "squash")
        for batch in batches.as_numpy_iterator():
            images = batch["images"]
            classes = classify(images).numpy().argmax(-1) if classify else None
            boxed = np.flatnonzero(batch["box_counts"])
            boxes = [batch["boxes"][index][: batch["box_counts"][index]] for index in boxed]
            for name, method in methods.items():
                masks = method.masks(images, classes)
                localization, statistics, *of_masks = scores[name]
                statistics.accumulate(masks)
                if boxed.size:
                    localization.accumulate(masks[boxed], boxes)
                if "masks" in batch and batch["has_mask"].any():
                    has_masks = True
                    masked = masks[batch["has_mask"]], batch["masks"][batch["has_mask"]]
                    for evaluator in of_masks:
                        evaluator.accumulate(*masked)
    results = {}
    for name, evaluators in scores.items():
        measures = evaluators if has_masks else evaluators[:2]
        computed = {key: value for one in measures for key, value in one.compute().items()}
        results[name] = {key: computed[key] for key in _MEASURES if key in computed}
    return results


def _parted(text):
    name, colon, folder = text.partition(":")
    if not colon:
        raise ValueError(f"expected NAME:FOLDER; found {text}")
    return name, folder


if __name__ == "__main__":
    program.run(main)
