"""Score a run's masks and draw them: python -m components.evaluator --run_dir=runs/demo

Writes evaluation.json (CASM, the full image and the centre box, on the same images by the same
evaluators) and figure.png (the paper's Figure 2), and prints the table.
"""

import json
import pathlib

import casm_tf.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import keras
import numpy as np
from absl import flags
from tqdm import tqdm

from casm_tf import baselines, figures, files, networks, objectives, program, run_directory
from casm_tf.data import input_pipeline, views
from casm_tf.evaluation import Accuracy, LocalizationEvaluator, MaskStatistics

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is through.", required=True)
flags.DEFINE_string("output_dir", None, "For the results; by default the run's directory.")
flags.DEFINE_string("data_dir", None, "Where the data set is, if not where the run had it.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What is scored.")
flags.DEFINE_enum(
    "protocol",
    "centre_crop",
    list(views.PROTOCOLS),
    "What is seen of a picture: the square in its middle, or all of it, squashed. On ImageNet LE "
    "of the whole image differs by 5 points between them.",
)
flags.DEFINE_integer(
    "resize",
    None,
    "Of --protocol=centre_crop: the shorter side, before the crop; by default the crop's.",
    lower_bound=32,
)
flags.DEFINE_integer("batch_size", 128, "Images a forward pass.", lower_bound=1)
flags.DEFINE_float("alpha", 1.0, "Of the rule 'alpha times the mean' for boxes.", lower_bound=0)

_COLUMNS = {
    "LE": "LE",
    "LE_mean_rule": "LE (mean)",
    "OM": "OM",
    "F1": "F1",
    "top1": "top-1",
    "top1_masked_in": "in",
    "top1_masked_out": "out",
    "mask_mean": "size",
    "mask_std": "std",
    "mask_entropy": "entropy",
    "mask_tv": "TV",
}
_FIGURE_COLUMNS = 7


def main():
    run_dir = pathlib.Path(FLAGS.run_dir)
    output_dir = pathlib.Path(FLAGS.output_dir or run_dir)
    with program.blaming("run_dir"):
        run = run_directory.read(run_dir)["flags"]
        model = keras.models.load_model(run_dir / "model.keras", compile=False)
    with program.blaming("data_dir"):
        dataset = input_pipeline.open_dataset(
            run["dataset"],
            FLAGS.data_dir or run["data_dir"],
            # A run may be older than these flags.
            **{name: run.get(name) for name in ("image_dir", "boxes", "masks", "image_size")},
        )
        if run.get("classes"):
            dataset = input_pipeline.of_classes(dataset, run["classes"])
    with program.blaming("run_dir"):
        before = networks.classifier(run["classifier"], dataset.image_size, len(dataset.labels))
        networks.load_weights(before, run_dir / run_directory.FIRST_CLASSIFIER)
    if FLAGS.resize and FLAGS.resize < dataset.image_size:
        raise program.UserError(
            f"--resize: {FLAGS.resize} is less than the crop's {dataset.image_size}"
        )
    with program.blaming("output_dir"):
        files.check_writable(output_dir)

    size = dataset.image_size
    scores = {"casm": _Scores(), "full_image": _Scores(), "centre_box": _Scores()}
    batches = input_pipeline.evaluation_batches(
        dataset, FLAGS.split, FLAGS.batch_size, FLAGS.protocol, FLAGS.resize
    )
    before_accuracy, first = Accuracy(), None
    for batch in tqdm(batches, desc=f"scoring {FLAGS.split}", unit="batch"):
        images, labels = batch["images"].numpy(), batch["labels"].numpy()
        counts = batch["box_counts"].numpy()
        boxes = [padded[:n] for padded, n in zip(batch["boxes"].numpy(), counts, strict=True)]
        outputs = model.predict_on_batch(images)
        before_accuracy.accumulate(labels, clean=_classes(before.predict_on_batch(images)))
        masks = {
            "casm": outputs["mask"][..., 0],
            "full_image": np.stack([baselines.full_image(size, size)] * len(images)),
            "centre_box": np.stack([baselines.centre_box(size, size)] * len(images)),
        }
        for name, score in scores.items():
            score.accumulate(model, images, labels, boxes, outputs["logits"], masks[name])
        if first is None:
            first = (dataset.denormalise(images), masks["casm"], boxes)

    results = {"protocol": _protocol()}
    results |= {name: score.compute() for name, score in scores.items()}
    results["casm"]["top1_before"] = before_accuracy.compute()["top1"]
    output_dir.mkdir(parents=True, exist_ok=True)
    with files.replacing(output_dir / "evaluation.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n")
    figures.figure_2(*(part[:_FIGURE_COLUMNS] for part in first), output_dir / "figure.png")
    _print_table(results)
    print(f"top-1 before the alternation: {results['casm']['top1_before']:.3f}")
    print(f"made  {output_dir / 'evaluation.json'} and {output_dir / 'figure.png'}")


def _protocol():
    """What was seen of a picture, in a few words: LE depends on it."""
    if FLAGS.protocol == "centre_crop" and FLAGS.resize:
        return f"centre_crop, resize {FLAGS.resize}"
    return FLAGS.protocol


class _Scores:
    """All that is measured of one kind of masks; images without a box are not localized."""

    def __init__(self):
        self.has_boxes = False
        self.localization = LocalizationEvaluator()
        self.mean_rule = LocalizationEvaluator("mean", FLAGS.alpha)
        self.statistics = MaskStatistics()
        self.accuracy = Accuracy()

    def accumulate(self, model, images, labels, boxes, logits, masks):
        """Take in a batch; the classifier sees the images with and without what is salient."""
        right = logits.argmax(-1) == labels
        with_box = np.flatnonzero([len(image_boxes) for image_boxes in boxes])
        if with_box.size:
            self.has_boxes = True
            chosen = (masks[with_box], [boxes[index] for index in with_box], right[with_box])
            self.localization.accumulate(*chosen)
            self.mean_rule.accumulate(*chosen)
        self.statistics.accumulate(masks)
        views = {
            "masked_in": objectives.masked_in(images, masks[..., None]),
            "masked_out": objectives.masked_out(images, masks[..., None]),
        }
        classes = {view: _classes(model.predict_on_batch(seen)) for view, seen in views.items()}
        self.accuracy.accumulate(labels, clean=logits.argmax(-1), **classes)

    def compute(self):
        results = {**self.accuracy.compute(), **self.statistics.compute()}
        if self.has_boxes:
            mean_rule = self.mean_rule.compute()
            results |= self.localization.compute()
            results |= {"LE_mean_rule": mean_rule["LE"], "OM_mean_rule": mean_rule["OM"]}
        return results


def _classes(outputs):
    """The predicted classes, integers [B]."""
    return outputs["logits"].argmax(-1)


def _print_table(results):
    columns = {key: title for key, title in _COLUMNS.items() if key in results["casm"]}
    print(f"\n{'':12}" + "".join(f"{title:>10}" for title in columns.values()))
    for name, values in results.items():
        if name != "protocol":
            print(f"{name:12}" + "".join(f"{values[key]:10.3f}" for key in columns))
    print()


if __name__ == "__main__":
    program.run(main)
