"""A mask model on sets of salient objects: python -m benchmarks.salient_objects --sets=sets/ecssd

The folder of a set holds images/ and masks/, PNGs of the pictures' names and sizes. What is scored
is what casm_tf.extract writes, as is usual in the field: masks of 8 bits, each of its picture's own
size. The last line is {folder's name: {measure: number}}, the measures of `SalientObject`.
"""

import json
import pathlib

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
from absl import flags
from tqdm import tqdm

from casm_tf.cli import program
from casm_tf.data import pictures
from casm_tf.evaluation import SalientObject
from casm_tf.serving.mask_model import MaskModel

FLAGS = flags.FLAGS

flags.DEFINE_list("sets", None, "The folders of what is scored.", required=True)
flags.DEFINE_string("model", None, "As of casm_tf.extract; by default the package's own.")
flags.DEFINE_integer("image_size", None, "As of casm_tf.extract.")

_BATCH = 16  # pictures a forward pass


def main():
    with program.blaming("sets"):
        sets = {pathlib.Path(folder).name: pairs(pathlib.Path(folder)) for folder in FLAGS.sets}
    with program.blaming("model"):
        model = MaskModel.load(FLAGS.model, FLAGS.image_size)
    results = {}
    for name, some in sets.items():
        with program.blaming("sets"):
            results[name] = scored(model, some)
        numbers = "".join(f"  {key} {value:.3f}" for key, value in results[name].items())
        print(f"{name}, {len(some)} pictures:{numbers}")
    print(json.dumps(results))


def pairs(folder):
    """The pictures and masks of a set's folder, [(path, path), ...]; ValueError without any."""
    found = [
        (path, folder / "masks" / f"{path.stem}.png")
        for path in sorted((folder / "images").glob("*"))
    ]
    missing = [path for path, mask in found if not mask.exists()]
    if missing or not found:
        what = f"{missing[0].name} without one" if missing else "no picture"
        raise ValueError(f"{folder}: expected images/ and a mask of each in masks/; found {what}")
    return found


def scored(model, some):
    """{measure: number} of a model's masks of pictures that have true ones."""
    evaluator = SalientObject()
    for start in tqdm(range(0, len(some), _BATCH), unit="batch"):
        part = some[start : start + _BATCH]
        for mask, (_, path) in zip(model([path for path, _ in part]), part, strict=True):
            grey = np.asarray(mask.opacity())[None]
            evaluator.accumulate(grey / 255, pictures.read_mask(path)[None] > 0)
    return evaluator.compute()


if __name__ == "__main__":
    program.run(main)
