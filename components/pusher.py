"""Export a run's mask model for TensorFlow Serving: python -m components.pusher --run_dir=runs/demo

Writes {serving_dir}/casm/{version}/, a SavedModel (casm_tf/export.py tells of its signatures). The
version is the one after the newest there; TensorFlow Serving takes the largest. Everything or
nothing is written. The labels and, from evaluation.json, CASM's metrics go with it.
"""

import json
import pathlib

import casm_tf.quiet  # before TensorFlow

# isort: split

import keras
import numpy as np
from absl import flags

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)
from casm_tf import export, files, program, run_directory
from casm_tf.data import input_pipeline

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is through.", required=True)
flags.DEFINE_string(
    "serving_dir", "serving", "For the served models; this one's versions go into casm/ in it."
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Where the data set is, if not where the run had it: it tells the pixels' mean and deviation.",
)

_NAME = "casm"  # under which it is served


def main():
    run_dir = pathlib.Path(FLAGS.run_dir)
    directory = pathlib.Path(FLAGS.serving_dir) / _NAME
    with program.blaming("run_dir"):
        run = run_directory.read(run_dir)
        model = keras.models.load_model(run_dir / "model.keras", compile=False)
        metrics = _metrics(run_dir / "evaluation.json")
    with program.blaming("serving_dir"):
        files.check_writable(directory)
    with program.blaming("data_dir"):
        dataset = input_pipeline.dataset_of_run(run["flags"], FLAGS.data_dir)
    with program.blaming("run_dir", ValueError), program.blaming("serving_dir", OSError):
        path = export.export_model(
            model, directory, dataset.labels, dataset.mean, dataset.std, metrics
        )

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    weights = sum(np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.variables)
    print(f"made  {path}: {size / 1e6:.1f} MB, {size / weights:.2f} times the weights")
    if not metrics:
        print(f"      without metrics: {run_dir} has no evaluation.json")
    if not (path / export.WARMUP).exists():
        print("      without requests to warm up with: pip install 'casm_tf[serving]' for them")
    print(f"next  python -m casm_tf.extract --model={path} --output=masks PHOTO.jpg")
    print("or serve it, with Docker (this command and the next were not tested here):")
    print(f"      docker run --rm -p 8501:8501 -e MODEL_NAME={_NAME} \\")
    print(f"          -v '{directory.absolute()}:/models/{_NAME}' tensorflow/serving")
    print(_curl())


def _metrics(path):
    """CASM's row of a run's evaluation.json; {} where the run was not scored."""
    return json.loads(path.read_text())["casm"] if path.exists() else {}


def _curl():
    """A command that asks the server for a mask, as a PNG in base64, with box and label."""
    request = '{"signature_name": "mask_png_bytes", "instances": [{"image_bytes": {"b64": "%s"}}]}'
    return (
        f"      printf '{request}' \"$(base64 -w0 PHOTO.jpg)\" |\n"
        f"          curl -d @- http://localhost:8501/v1/models/{_NAME}:predict"
    )


if __name__ == "__main__":
    program.run(main)
