"""Push a mask model to TensorFlow Serving: python -m components.pusher --run_dir=runs/demo

Writes {serving_dir}/casm/{version}/, a SavedModel (docs/serving.md tells of its signatures).
The version is the one after the newest there; TensorFlow Serving takes the largest. Everything or
nothing is written. The labels and, from evaluation.json, CASM's metrics go with it; models.config
and batching_parameters.txt for the server are made beside it where they are not there.

With --run_dir a run's model is exported; with --model what components.infra_validator has exported
and tried is copied. Nothing is pushed, and the exit code is 1, where a blessing is asked for and is
not there.
"""

import pathlib
import shlex

from absl import flags

from casm_tf.cli import limits, program

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is finished.")
flags.DEFINE_string("model", None, "Or what components.infra_validator left.")
flags.DEFINE_string(
    "serving_dir", "serving", "For the served models; this one's versions go into casm/ in it."
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "What the exported network computes in; what goes in and comes out is float32.",
)
flags.DEFINE_enum(
    "weights",
    "float32",
    ["float32", "float16"],
    "What the kernels are in the file; float16 takes half the room.",
)
flags.DEFINE_string("blessing", None, "The evaluator's, without which nothing is pushed.")
flags.DEFINE_string("infra_blessing", None, "The infra_validator's, the same.")
flags.DEFINE_string("pushed_model", None, "A link to the pushed version is made there.")
flags.declare_key_flag("max_pixels")
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

from casm_tf.host import files
from casm_tf.networks import keras_files
from casm_tf.serving import export, mask_model, servable, server_config
from casm_tf.training import run_directory
from components import blessing

_NAME = "casm"  # under which it is served


def main():
    limits.apply()
    if (FLAGS.run_dir is None) == (FLAGS.model is None):
        raise program.UserError("takes --run_dir or --model")
    for name in ("precision", "weights"):
        if FLAGS.model and not FLAGS[name].using_default_value:
            raise program.UserError(f"--{name}: --model is exported already")
    directory = pathlib.Path(FLAGS.serving_dir) / _NAME
    for name in ("blessing", "infra_blessing"):
        if FLAGS[name].value is not None:
            with program.blaming(name):
                if not blessing.is_blessed(FLAGS[name].value):
                    print(f"nothing is pushed: {FLAGS[name].value} has no blessing")
                    return 1
    with program.blaming("serving_dir"):
        files.check_writable(directory)
    link = pathlib.Path(FLAGS.pushed_model) if FLAGS.pushed_model else None
    if link:
        with program.blaming("pushed_model"):
            if link.exists() and not link.is_symlink():
                raise ValueError(f"{link} is there, and no link")
            files.check_writable(link.parent)

    if FLAGS.model:
        exported = pathlib.Path(FLAGS.model) / _NAME / "1"
        with program.blaming("model", ValueError), program.blaming("serving_dir", OSError):
            path = export.push(exported, directory)
    else:
        path = _export(pathlib.Path(FLAGS.run_dir), directory)
    with program.blaming("serving_dir", OSError):
        server_config.write(FLAGS.serving_dir, _NAME)
    if link:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path.absolute(), target_is_directory=True)
    _say(path)
    return 0


def _export(run_dir, directory):
    with program.blaming("run_dir"):
        model = keras_files.load_keras(run_directory.model_of(run_dir))
        run = run_directory.read(run_dir)
        servable.checked_size(model, run["labels"], run["mean"], run["std"])
        was_scored = (run_dir / "evaluation.json").exists()
        metrics = blessing.metrics_of(run_dir) if was_scored else {}
    if not was_scored:
        print(f"      without metrics: {run_dir} has no evaluation.json")
    with program.blaming("serving_dir", OSError):
        return export.export_model(
            *(model, directory, run["labels"], run["mean"], run["std"], metrics),
            precision=FLAGS.precision,
            weights=FLAGS.weights,
            trained_on=run["flags"]["dataset"],
        )


def _labels(path):
    """The labels of an exported model, or None where there are none that can be read."""
    try:
        return files.read_json(path / mask_model.DESCRIPTION)["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _say(path):
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"made  {path}: {size / 1e6:.1f} MB")
    before = _labels(path.parent / str(int(path.name) - 1))
    if before not in (None, _labels(path)):
        print(
            f"note  the version before it knows other classes ({', '.join(before[:3])}, ...): "
            "servers take the newest. A --serving_dir of its own keeps two models apart"
        )
    if not (path / export.WARMUP).exists():
        print("      without requests to warm up with: pip install 'casm_tf[serving]' for them")
    given = f"--model={path}", "--output=masks", "PHOTO.jpg"
    print(f"next  {program.command('casm_tf.extract', *given)}")
    print("or serve it, with Docker (this command and the next were not tested here):")
    serving_dir = path.parent.parent.absolute()
    volume = shlex.quote(f"{serving_dir}:/models")
    print(f"      docker run --rm -p 8500:8500 -p 8501:8501 -v {volume} \\")
    print("          tensorflow/serving --model_config_file=/models/models.config")
    # A mask as a PNG in base64, with box and label.
    request = '{"signature_name": "mask_png_bytes", "instances": [{"image_bytes": {"b64": "%s"}}]}'
    print(
        f"      printf '{request}' \"$(base64 -w0 PHOTO.jpg)\" |\n"
        f"          curl -d @- http://localhost:8501/v1/models/{_NAME}:predict"
    )


if __name__ == "__main__":
    program.run(main)
