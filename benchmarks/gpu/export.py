"""The training step as StableHLO: python -m benchmarks.gpu.export --output_dir=FOLDER

Writes NAME.json and NAME.mlir.gz (programs.py) of the steps of benchmarks.train_step, with the
present and with a past classifier as the critic, for benchmarks.gpu.run. Nothing large is run, and
no GPU is needed. Beside each there is a small one of 2 images of 64 pixels, with what TensorFlow
found when it took that step here: the small one is multiplied in whole float32 where its precision
is float32. The last line is {"programs": the names of the files}.
"""

import itertools
import json
import pathlib

import casm_tf.host.quiet  # noqa: F401

# isort: split

from absl import flags

from benchmarks import casm_step
from benchmarks.gpu.lowered import CRITICS, Step
from casm_tf.cli import program
from casm_tf.networks import convolutions

FLAGS = flags.FLAGS
CLASSIFIERS = ("resnet50", "efficientnet_lite0")
PRECISIONS = ("float32", "mixed_bfloat16")
_CLASSES = 1000
_SMALL = {"batch_size": 2, "image_size": 64}

flags.DEFINE_string("output_dir", None, "Folder for the files.", required=True)
flags.DEFINE_multi_enum("classifier", CLASSIFIERS, CLASSIFIERS, "Whose steps; again for more.")
flags.DEFINE_multi_enum("precision", PRECISIONS, PRECISIONS, "Of the networks; again for more.")
flags.DEFINE_multi_integer("batch_size", [64, 128], "Images a step; again for more.", lower_bound=1)
flags.DEFINE_integer("image_size", 224, "Pixels a side.", lower_bound=32)
flags.DEFINE_integer("snapshots", 30, "Past classifiers to draw from.", lower_bound=1)


def main():
    # The steps are those that a GPU takes; layers ask this very function as they are called.
    convolutions.has_gpu = lambda: True
    folder = pathlib.Path(FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    large = [{"batch_size": n, "image_size": FLAGS.image_size} for n in FLAGS.batch_size]
    steps = itertools.product(FLAGS.classifier, FLAGS.precision, (_SMALL, *large), CRITICS)
    for classifier, precision, size, critic in steps:
        about = {"classifier": classifier, "precision": precision, "critic": critic, **size}
        path = folder / f"{'_'.join(map(str, about.values()))}.json"
        snapshots = 2 if size is _SMALL else FLAGS.snapshots
        model = casm_step.model(classifier, size["image_size"], _CLASSES, precision, snapshots)
        step = Step(model, critic, size["batch_size"])
        step.write(path, about, with_reference=size is _SMALL)
        written.append(path.name)
        print(path, flush=True)
    print(json.dumps({"programs": written}))


if __name__ == "__main__":
    program.run(main)
