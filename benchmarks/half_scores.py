"""Scores on the halves of a validation split: choices are made on one, the other is reported."""

import json
import statistics

import numpy as np
from tqdm import tqdm

from casm_tf.evaluation import Accuracy, LocalizationEvaluator, MaskStatistics, MaxBoxAcc
from casm_tf.host import files

_HALVES = ("choice", "report")
_MEASURES = ("LE", "OM", "F1", "MaxBoxAccV2", "mask_mean", "top1")


def scored(batches, look, title):
    """{method: {half: {measure: number}}} over the batches of `evaluation_batches`.

    `look` takes images to (the classes that are predicted for them, {method: masks}).
    """
    scores, first = {}, 0
    for batch in tqdm(batches.as_numpy_iterator(), desc=f"scoring {title}", unit="batch"):
        labels = batch["labels"]
        classes, masks = look(batch["images"])
        for half, some in halves(first, len(labels)).items():
            boxes = [batch["boxes"][index][: batch["box_counts"][index]] for index in some]
            right = classes[some] == labels[some]
            for name, of_all in masks.items():
                found = scores.setdefault(name, {half: _evaluators(half) for half in _HALVES})[half]
                localization, statistics_, accuracy, *max_box_acc = found
                localization.accumulate(of_all[some], boxes, right)
                statistics_.accumulate(of_all[some])
                accuracy.accumulate(labels[some], clean=classes[some])
                for one in max_box_acc:
                    one.accumulate(of_all[some], boxes)
        first += len(labels)
    return {
        name: {half: _computed(evaluators) for half, evaluators in of_halves.items()}
        for name, of_halves in scores.items()
    }


def _evaluators(half):
    evaluators = [LocalizationEvaluator(), MaskStatistics(), Accuracy()]
    # The dearest measure, by which nothing is chosen.
    return [*evaluators, MaxBoxAcc()] if half == "report" else evaluators


def _computed(evaluators):
    found = {key: value for one in evaluators for key, value in one.compute().items()}
    return {key: found[key] for key in _MEASURES if key in found}


def halves(first, count):
    """Of a batch that begins with picture `first`, the places of each half's pictures."""
    places = np.arange(count)
    return {half: places[(first + places) % 2 == rest] for rest, half in enumerate(_HALVES)}


def kept(folder, make):
    """What is in a folder's scores.json, made first where there is none."""
    path = folder / "scores.json"
    if not path.exists():
        found = make()
        folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as unfinished:
            unfinished.write_text(json.dumps(found, indent=2) + "\n")
    return files.read_json(path)


def lowest(scores):
    """The name whose LE is the lowest on the half for choices; of equal ones the first."""
    return min(scores, key=lambda name: scores[name]["choice"]["LE"])


def by_measure(scores):
    """{measure: [a number a seed]} of the half that is reported."""
    return {key: [one["report"][key] for one in scores] for key in _MEASURES}


def table(results):
    """The lines of the table: means, and the deviations where there are several seeds."""
    yield f"{'':12}" + "".join(f"{measure:>17}" for measure in _MEASURES)
    for row, values in results.items():
        yield f"{row:12}" + "".join(f"{_shown(values[key]):>17}" for key in _MEASURES)


def _shown(values):
    deviation = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else " " * 9
    return f"{statistics.mean(values):.3f}{deviation}"
