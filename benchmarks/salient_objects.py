"""A mask model on sets of salient objects: python -m benchmarks.salient_objects --sets=sets/ecssd

The folder of a set holds images/ and masks/, PNGs of the pictures' names and sizes. What is scored
is what casm_tf.extract writes, as is usual in the field: masks of 8 bits, each of its picture's own
size; with --views the mean of four such masks: at the model's size and at 10/7 of it, each also of
the mirrored picture and mirrored back. Beside ours stand figures that others published for ECSSD;
A2S-v2's F is what its authors call so, which may be no maxF. The last line is {folder's name:
{measure: number}}, the measures of `SalientObject`.
"""

import json
import pathlib

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
from absl import flags
from PIL import ImageOps
from tqdm import tqdm

from casm_tf.cli import program
from casm_tf.data import pictures
from casm_tf.evaluation import SalientObject
from casm_tf.second_stage.teachers import larger
from casm_tf.serving.mask_model import MaskModel

FLAGS = flags.FLAGS

_BATCH = 16  # pictures a forward pass
_PUBLISHED = {
    "SelfMask": {"MAE": 0.058, "IoU": 0.818},
    "A2S, second stage (ResNet-50, ImageNet's labels)": {"MAE": 0.064},
    "A2S-v2": {"MAE": 0.044, "F": 0.916},
    "TokenCut": {"IoU": 0.712},
    "TokenCut with a bilateral solver": {"IoU": 0.772},
}


def main():
    with program.blaming("sets"):
        sets = {pathlib.Path(folder).name: pairs(pathlib.Path(folder)) for folder in FLAGS.sets}
    with program.blaming("model"):
        models = [MaskModel.load(FLAGS.model, FLAGS.image_size)]
        if FLAGS.views:
            models.append(MaskModel.load(FLAGS.model, larger(models[0].image_size)))

    def look(paths):
        if FLAGS.views:
            return mean_of_views(models, paths)
        return [np.asarray(mask.opacity()) for mask in models[0](paths)]

    results = {}
    for name, some in sets.items():
        with program.blaming("sets"):
            results[name] = scored(look, some)
        print(f"{name}, {len(some)} pictures:{_in_words(results[name])}")
    for name, numbers in _PUBLISHED.items():
        print(f"published, ECSSD, {name}:{_in_words(numbers)}")
    print(json.dumps(results))


def _in_words(numbers):
    return "".join(f"  {key} {value:.3f}" for key, value in numbers.items())


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


def mean_of_views(models, paths):
    """The mean of the models' masks of each picture and of its mirror image, turned back.

    Returns uint8 [H, W] for each path, of the picture's size.
    """
    totals = [0] * len(paths)
    for model in models:
        plain = model(paths)
        mirrored = model([ImageOps.mirror(mask.picture()) for mask in plain])
        for number, (mask, other) in enumerate(zip(plain, mirrored, strict=True)):
            totals[number] = totals[number] + (mask.mask + other.mask[:, ::-1])
    return [np.round(255 * x / (2 * len(models))).astype(np.uint8) for x in totals]


def scored(look, some):
    """{measure: number} of the masks, uint8 [H, W], that look(paths) gives of (path, path) pairs.

    The second path is the true mask's.
    """
    evaluator = SalientObject()
    for start in tqdm(range(0, len(some), _BATCH), unit="batch"):
        part = some[start : start + _BATCH]
        for mask, (_, path) in zip(look([path for path, _ in part]), part, strict=True):
            evaluator.accumulate(mask[None] / 255, pictures.read_mask(path)[None] > 0)
    return evaluator.compute()


if __name__ == "__main__":
    # Here alone, as the functions above are imported beside programs with flags of these names.
    flags.DEFINE_list("sets", None, "The folders of what is scored.", required=True)
    flags.DEFINE_string("model", None, "As of casm_tf.extract; by default the package's own.")
    flags.DEFINE_integer("image_size", None, "As of casm_tf.extract.")
    flags.DEFINE_bool("views", False, "Score the mean of four views of each picture.")
    program.run(main)
