"""Mutated files, read one by one: python tests/read_mutated.py FOLDER

A process of its own, so that a crash is seen as one. Before each file its name is written to
FOLDER/last.txt; on standard output stands a line of JSON for each: file, outcome, megabytes.
"""

import argparse
import json
import pathlib
import resource
import sys

import casm_tf.host.quiet  # noqa: F401

# isort: split

import numpy as np
import tensorflow as tf
from mutations import good_annotations, good_pictures, mutated
from PIL import Image

from casm_tf.data import annotations, damage, datasets, input_pipeline, pictures
from casm_tf.serving import decoding

_MAX_PIXELS = 2**21


# Each reader gives "read" or "refused", or raises what it must not.


def read_picture(path):
    data = path.read_bytes()
    try:
        image = pictures.open_rgb(path)
        assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8
        pictures.open_rgb(path, at_least=16)
    except ValueError as error:
        _check_line(error)
    try:
        squashed = _squashed(tf.constant(data)).numpy()
        assert squashed.shape == (32, 32, 3) and np.isfinite(squashed).all()
    except tf.errors.InvalidArgumentError:
        pass
    try:
        picture = pictures.read(path)
    except ValueError as error:
        return _check_line(error)
    decoded = pictures.decode(picture.data)
    assert decoded.shape == (*picture.size[::-1], 3) and decoded.dtype == tf.uint8
    return "read"


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _squashed(data):
    return decoding.squashed(data, 32)


def read_xml(path):
    try:
        boxes = annotations.read_xml(path, "cat", (60, 40), (40, 60))
        boxes, left_out = annotations.clipped(boxes)
    except ValueError as error:
        return _check_line(error, path.name)
    assert boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype == np.float64
    assert boxes.size == 0 or (boxes.min() >= 0 and boxes.max() <= 1 and left_out >= 0)
    return "read"


def read_table(path):
    try:
        table = annotations.read_table(path)
    except ValueError as error:
        return _check_line(error, path.name)
    for name, boxes in table.items():
        assert isinstance(name, str) and np.isfinite(boxes).all()
        assert np.shape(boxes) == (len(boxes), 4)
    return "read"


def read_mask(path):
    try:
        mask = pictures.read_mask(path)
    except ValueError as error:
        return _check_line(error)
    assert mask.ndim == 2 and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
    return "read"


def read_data(directory):
    """digit_scenes/tiny in a TFDS directory, wholly, as a training and an evaluation do."""
    try:
        dataset = datasets.open_dataset("digit_scenes/tiny", str(directory))
    except ValueError as error:
        return _check_line(error, "digit_scenes")
    try:
        with damage.naming_files(dataset):
            size = dataset.builder.info.splits["train"].num_examples
            for images, labels in input_pipeline.training_batches(dataset, 16, 0).take(
                -(-size // 16)
            ):
                assert images.shape == (16, 32, 32, 3) and labels.shape == (16,)
            for split in ("validation", "test"):
                for batch in input_pipeline.evaluation_batches(dataset, split, 16):
                    assert batch["images"].shape[1:] == (32, 32, 3)
                    assert batch["masks"].shape == batch["images"].shape[:3]
    except damage.DamagedFileError as error:
        return _check_line(error, ".tfrecord")
    return "read"


def _check_line(error, name=""):
    text = str(error)
    assert text and "\n" not in text and name in text, f"not one line with {name}: {text!r}"
    return "refused"


def reader(name):
    if name.endswith((".xml", ".csv", ".mask.png")):
        return {"l": read_xml, "v": read_table, "g": read_mask}[name[-1]]
    return read_picture


def main(folder, seed, count, data):
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS  # so that what is above it stands out in memory
    draws = np.random.default_rng(seed)
    files = good_pictures() | good_annotations()
    jobs = [(name, reader(name), files[name]) for name in files]
    if data:
        # TFDS does not read features.json where the class is known.
        of_data = [*data.rglob("*.tfrecord*"), *data.rglob("1.0.0/[dm]*.json")]
        jobs += [(path.relative_to(data).as_posix(), None, path.read_bytes()) for path in of_data]
    for number in range(-len(jobs), count):  # at first each as it is
        name, read, good = jobs[number % len(jobs)]
        wrong = good if number < 0 else mutated(good, draws, name)
        path = folder / (f"{number}.{name}" if read else name)
        (folder / "last.txt").write_text(f"{number} {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wrong)
        before = _megabytes()
        try:
            outcome = read(path) if read else read_data(folder)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:500]
        if read is None:
            path.write_bytes(good)
        elif outcome in ("read", "refused"):
            path.unlink()
        result = {
            "file": f"{number}.{name}",
            "outcome": outcome,
            "megabytes": _megabytes() - before,
        }
        print(json.dumps(result), flush=True)


def _megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path, help="for the files; of TFDS, with --data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--data", type=pathlib.Path, help="a TFDS directory with digit_scenes/tiny")
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder, arguments.seed, arguments.count, arguments.data))
