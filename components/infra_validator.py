"""Export a run's mask model and see whether it can be served: python -m components.infra_validator

The exported model is loaded in a fresh process that can import neither casm_tf nor Keras, through
the loader and the session that TensorFlow Serving is built on (serving/serving_check.py); it
answers the requests it is to be warmed up with, and its masks of test pictures are compared with
the trained model's. Leaves the SavedModel in --model/casm/1 and INFRA_BLESSED or INFRA_NOT_BLESSED
in --blessing.

A SavedModel is a program, to be loaded from trusted places only. The one that is loaded here is
made here, of a run's model.keras, which is loaded without running what it may hold.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from absl import flags

from casm_tf.cli import limits, program

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is finished.", required=True)
flags.DEFINE_string("evaluation", None, "Where its evaluation.json is, for the metrics.")
flags.DEFINE_string("data_dir", None, "Where the data set is, if not where the run had it.")
flags.DEFINE_string("examples", None, "Or what components.example_gen left, which tells it.")
flags.DEFINE_string("model", None, "For the exported model.", required=True)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "What the exported network computes in; what goes in and comes out is float32.",
)
flags.DEFINE_string("blessing", None, "For INFRA_BLESSED or INFRA_NOT_BLESSED.", required=True)
flags.DEFINE_integer("images", 32, "Of the test split, whose masks are compared.", lower_bound=1)
flags.DEFINE_float(
    "tolerance",
    None,
    "How far a mask's values may be from the trained model's; by default 1e-4, in bfloat16 0.2.",
    lower_bound=0,
)
flags.declare_key_flag("max_pixels")
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

import casm_tf.host.quiet  # before TensorFlow

# isort: split

import numpy as np
import tensorflow as tf

from casm_tf.data import damage, input_pipeline
from casm_tf.host import files
from casm_tf.networks import keras_files
from casm_tf.serving import export, servable
from casm_tf.training import run_directory
from components import blessing, examples


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    for name in ("model", "blessing"):
        with program.blaming(name):
            files.check_writable(FLAGS[name].value)
    with program.blaming("run_dir"):
        model = keras_files.load_keras(run_directory.model_of(run_dir))
        run = run_directory.read(run_dir)
        servable.checked_size(model, run["labels"], run["mean"], run["std"])
    metrics = {}
    if FLAGS.evaluation:
        with program.blaming("evaluation"):
            metrics = blessing.metrics_of(FLAGS.evaluation)
    with program.blaming("examples"):
        data_dir = examples.data_dir(FLAGS.examples, FLAGS.data_dir)
    with program.blaming("data_dir", OSError), program.blaming("run_dir", ValueError):
        dataset = run_directory.dataset_of(run_dir, data_dir)
    with program.blaming("model", OSError):
        path = export.export_model(
            *(model, pathlib.Path(FLAGS.model) / "casm"),
            *(run["labels"], run["mean"], run["std"], metrics),
            precision=FLAGS.precision,
            trained_on=run["flags"]["dataset"],
        )

    with program.blaming("data_dir", damage.DamagedFileError), damage.naming_files(dataset):
        batches = input_pipeline.evaluation_batches(dataset, "test", FLAGS.images)
        images = next(iter(batches))["images"]
    reason = _reason_against(path, model, dataset, images)
    blessing.write(FLAGS.blessing, not reason, prefix="INFRA_")
    print(f"made  {path}")
    print(f"not blessed: {reason}" if reason else "blessed")


def _reason_against(path, model, dataset, images):
    """What is wrong with the exported model, or None."""
    pixels = dataset.denormalise(images)
    expected = model(dataset.normalise(tf.constant(pixels)), training=False)["mask"]
    with tempfile.TemporaryDirectory() as directory, files.literal(path.absolute()) as literal:
        pictures = pathlib.Path(directory) / "pictures.npz"
        pngs = {
            f"png{number}": np.frombuffer(tf.io.encode_png(picture).numpy(), np.uint8)
            for number, picture in enumerate(pixels)
        }
        np.savez(pictures, pixels=pixels, masks=expected, **pngs)
        checker = pathlib.Path(casm_tf.__file__).parent / "serving" / "serving_check.py"
        done = subprocess.run(
            # -P: what lies beside the file is not found by chance.
            [sys.executable, "-P", str(checker), str(literal), str(pictures)],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"the model cannot be served: {last} (exit code {done.returncode})"
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{len(pixels)} masks differ from the trained model's by {found['pixels']:.1e} at most, "
        f"as encoded pictures by {found['pictures']:.1e}; {found['warmup']} requests to warm up"
    )
    worst = max(found["pixels"], found["pictures"])
    tolerance = FLAGS.tolerance
    if tolerance is None:
        tolerance = 0.2 if FLAGS.precision == "bfloat16" else 1e-4
    if not worst <= tolerance:
        return f"masks differ from the trained model's by {worst:.2g}, more than {tolerance:g}"
    return None


if __name__ == "__main__":
    program.run(main)
