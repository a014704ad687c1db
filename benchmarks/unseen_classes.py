"""Masks for classes that were never seen, the paper's Table 3: python -m benchmarks.unseen_classes

The classes are shuffled and cut into six groups A to F of 5, 5, 10, 30, 30 and 20%. A mask model,
its classifier's pretraining included, is trained on F (20% of the classes), E and F (50%), D to F
(80%), C to F (90%), B to F (95%) and on all. Each is scored on all images of the test split, by
group: LE and F1 need no label. lambda_R is the same for all.

Rows that are in runs_dir/results.csv count. The last line is {"F": {"LE_all": ..., "F1_A": ...},
"EF": ..., ...}, by the groups that were trained on.
"""

import collections
import csv
import json
import pathlib
import subprocess
import sys

import casm_tf.host.quiet  # before TensorFlow

# isort: split

import keras
import numpy as np
from absl import flags
from tqdm import tqdm

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)
from casm_tf.cli import flagfiles, program
from casm_tf.data import datasets, input_pipeline
from casm_tf.evaluation import Accuracy, LocalizationEvaluator
from casm_tf.host import files
from casm_tf.training import run_directory

FLAGS = flags.FLAGS

flags.DEFINE_string("config", "configs/letters.flags", "The flagfile of every training.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets.")
flags.DEFINE_string("runs_dir", "runs/unseen_classes", "Where results.csv and the runs go.")

# Group A ends at a twentieth of the classes and so on: 50, 50, 100, 300, 300, 200 of 1,000.
_ENDS = {"A": 0.05, "B": 0.1, "C": 0.2, "D": 0.5, "E": 0.8, "F": 1.0}
_TRAINED_ON = ("F", "EF", "DEF", "CDEF", "BCDEF", "ABCDEF")
flags.DEFINE_list("rows", list(_TRAINED_ON), "The groups that are trained on, row by row.")

_SCORED = ("all", "seen", "unseen", *_ENDS)
_COLUMNS = (
    *("trained_on", "classes", "top1_seen"),
    *(f"{measure}_{images}" for measure in ("LE", "F1") for images in _SCORED),
)


def main():
    for row in FLAGS.rows:
        if row not in _TRAINED_ON:
            raise program.UserError(f"--rows: any of {', '.join(_TRAINED_ON)}; found {row!r}")
    runs_dir = pathlib.Path(FLAGS.runs_dir)
    with program.blaming("config"):
        # With what flagfiles within it say; of a flag given twice the last one counts.
        lines = flagfiles.expanded([f"--flagfile={FLAGS.config}"])
    settings = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    if "dataset" not in settings:
        raise program.UserError(f"--config: expected a --dataset in {FLAGS.config}")
    with program.blaming("runs_dir"):
        run_directory.check_same(runs_dir, settings, changeable=())
    with program.blaming("config"):
        dataset = datasets.open_dataset(settings["dataset"], FLAGS.data_dir)
        groups = grouped(dataset.labels)
    with program.blaming("runs_dir"):
        run_directory.describe(runs_dir, settings, dataset.description())

    results = runs_dir / "results.csv"
    rows = _read(results)
    for trained_on in FLAGS.rows:
        if trained_on in rows:
            continue
        classes = [name for group in trained_on for name in groups[group]]
        listed = runs_dir / f"classes_{trained_on}.txt"
        with files.replacing(listed) as path:
            path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        run_dir = runs_dir / trained_on
        _train(*lines, f"--classes={listed}", run_dir=run_dir)
        model = keras.models.load_model(run_dir / "model.keras", compile=False)
        seen = datasets.of_classes(dataset, str(listed)).classes
        rows[trained_on] = {"trained_on": trained_on, "classes": len(classes)}
        rows[trained_on] |= _scores(model, dataset, groups, seen)
        _write(results, rows)

    for measure in ("LE", "F1"):
        _print_table(measure, rows)
    print("top-1 is of the images of classes that were trained on.")
    print(f"made  {results}")
    print(json.dumps({name: _numbers(rows[name]) for name in _TRAINED_ON if name in rows}))


def grouped(labels):
    """The classes by group, {"A": names, ..., "F": names}, shuffled always in the same way.

    Raises ValueError where a group would have no class.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    ends = [round(end * len(labels)) for end in _ENDS.values()]
    starts = [0, *ends[:-1]]
    groups = {
        group: [labels[number] for number in order[start:end]]
        for group, start, end in zip(_ENDS, starts, ends, strict=True)
    }
    if not all(groups.values()):
        raise ValueError(f"{len(labels)} classes are too few for six groups")
    return groups


def _train(*arguments, run_dir):
    """Run casm_tf.train to its end; what it says goes to the terminal."""
    command = [sys.executable, "-m", "casm_tf.train", *arguments, f"--run_dir={run_dir}"]
    if FLAGS.data_dir:
        command.append(f"--data_dir={FLAGS.data_dir}")
    if subprocess.run(command, check=False).returncode:
        raise program.UserError(f"{' '.join(command)} failed")


def _scores(model, dataset, groups, seen):
    """LE and F1 of each set of test images, and the accuracy where it can be right.

    `dataset` is with all classes; `seen` are the numbers there of the model's classes.
    """
    group_of = {name: group for group, names in groups.items() for name in names}
    localization, accuracy = collections.defaultdict(LocalizationEvaluator), Accuracy()
    batches = input_pipeline.evaluation_batches(dataset, "test", batch_size=128)
    for batch in tqdm(batches, desc="scoring", unit="batch"):
        outputs = model.predict_on_batch(batch["images"])
        classes = np.asarray(seen)[outputs["logits"].argmax(-1)]
        labels, counts, padded = (batch[name].numpy() for name in ("labels", "box_counts", "boxes"))
        for index, label in enumerate(labels):
            is_seen = label in seen
            if is_seen:
                accuracy.accumulate([label], clean=[classes[index]])
            boxes = padded[index, : counts[index]]
            if len(boxes):
                which = ("all", "seen" if is_seen else "unseen", group_of[dataset.labels[label]])
                for images in which:
                    localization[images].accumulate(outputs["mask"][None, index, ..., 0], [boxes])
    scores = {"top1_seen": accuracy.compute()["top1"]}
    for images, evaluator in localization.items():
        values = evaluator.compute()
        scores |= {f"{measure}_{images}": values[measure] for measure in ("LE", "F1")}
    return scores


def _read(path):
    """The rows that are there, by the groups that were trained on."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["trained_on"]: row for row in csv.DictReader(file)}


def _write(path, rows):
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows[name] for name in _TRAINED_ON if name in rows)


def _numbers(row):
    """The row's figures; without those of images that there were none of."""
    return {name: float(row[name]) for name in _COLUMNS[1:] if row.get(name) not in (None, "")}


def _print_table(measure, rows):
    print(f"\n{measure:12}{'classes':>8}{'top-1':>8}" + "".join(f"{name:>8}" for name in _SCORED))
    for name in _TRAINED_ON:
        if name in rows:
            row = _numbers(rows[name])
            cells = [f"{row['classes']:8.0f}", f"{row['top1_seen']:8.3f}"]
            for images in _SCORED:
                value = row.get(f"{measure}_{images}")
                cells.append(" " * 8 if value is None else f"{value:8.3f}")
            print(f"{name:12}" + "".join(cells))


if __name__ == "__main__":
    program.run(main)
