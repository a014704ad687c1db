"""An exported step as two files, NAME.json and NAME.mlir.gz, and the numbers that it is fed.

The JSON is {"classifier", "precision", "critic", "batch_size", "image_size", "inputs", "outputs",
"state", "reference"}. `inputs` and `outputs` are in the program's order, each {"name", "shape",
"dtype"}; an input has its numbers beside them (`numbers`). `state` are pairs [input, output]: what
an output gives is that input of the next step. `reference` is None or what TensorFlow found
(`changes`).
"""

import gzip
import json
import pathlib

import numpy as np

_SAMPLES = 16


def write(path, description, text):
    """Write NAME.json and the program beside it, the JSON last."""
    path = pathlib.Path(path)
    with gzip.open(path.with_suffix(".mlir.gz"), "wt") as file:
        file.write(text)
    path.write_text(json.dumps(description))


def read(path):
    """The description and the program's text of a NAME.json."""
    path = pathlib.Path(path)
    with gzip.open(path.with_suffix(".mlir.gz"), "rt") as file:
        return json.loads(path.read_text()), file.read()


def numbers(description):
    """The arrays of all inputs, the same on every machine.

    An input is {"values": all of them} or {"mean", "deviation"} of a Gaussian, with {"copies":
    true} the same along the first axis.
    """
    arrays = []
    for seed, described in enumerate(description["inputs"]):
        shape = tuple(described["shape"])
        part = shape[1:] if described.get("copies") else shape
        if "values" in described:
            array = np.array(described["values"], described["dtype"])
        elif described["deviation"] == 0:
            array = np.full(part, described["mean"], described["dtype"])
        else:
            # This generator's numbers are promised to stay what they are.
            normal = np.random.RandomState(seed).standard_normal(part)
            normal = described["mean"] + described["deviation"] * normal
            array = normal.astype(described["dtype"])
        arrays.append(np.broadcast_to(array, shape))
    return arrays


def changes(description, before, after):
    """What a step did to each state, in their order: the change's norm and some of its numbers.

    Args:
        before: the arrays of all inputs.
        after: {number of an output: array}, of all that are state.
    """
    found = []
    for number, output in description["state"]:
        change = np.asarray(after[output], np.float64) - np.asarray(before[number], np.float64)
        change = change.ravel()
        places = np.linspace(0, change.size - 1, min(_SAMPLES, change.size)).astype(int)
        found.append([float(np.linalg.norm(change)), *change[places].tolist()])
    return found


def differences(description, found):
    """{part: how far its changes are from the reference's, as a share of these}.

    A part is what names begin with, such as the classifier; its share the root of the mean square
    of all its states'.
    """
    names = [description["inputs"][number]["name"] for number, _ in description["state"]]
    parts = {}
    for name, ours, theirs in zip(names, found, description["reference"], strict=True):
        part = name.split("/")[0]
        share = np.linalg.norm(np.subtract(ours, theirs)) / (np.linalg.norm(theirs) or 1)
        parts.setdefault(part, []).append(share)
    return {part: float(np.sqrt(np.mean(np.square(shares)))) for part, shares in parts.items()}
