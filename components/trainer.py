"""Train by casm_tf.train on the examples of example_gen.

    python -m components.trainer --examples=DIR --run_dir=DIR -- --flagfile=configs/casm.flags

What is behind the "--" are casm_tf.train's own flags; where the data are comes from the examples.
Leaves a run (see casm_tf/training/run_directory.py) and weights.sha256, the digest of the trained
weights. A training that was broken off resumes.
"""

import hashlib
import pathlib
import sys
import zipfile

import h5py  # comes with Keras, whose files these are
from absl import flags

from casm_tf.cli import program
from casm_tf.host import files
from components import examples

FLAGS = flags.FLAGS

flags.DEFINE_string("examples", None, "What components.example_gen left.", required=True)
flags.DEFINE_string("run_dir", None, "For the run.", required=True)


def main(arguments):
    with program.blaming("examples"):
        settings = examples.read(FLAGS.examples)["settings"]
    data = [f"--{name}={value}" for name, value in settings.items() if value is not None]
    command = [sys.executable, "-m", "casm_tf.train", *arguments, *data]
    code = program.call([*command, f"--run_dir={FLAGS.run_dir}"])
    if code:
        return code
    run_dir = pathlib.Path(FLAGS.run_dir)
    if not (run_dir / "model.keras").exists():
        raise program.UserError("--run_dir: the training was stopped; the same command resumes it")
    with files.replacing(run_dir / "weights.sha256") as path:
        path.write_text(_weights_digest(run_dir / "model.keras"))
    return 0


def _weights_digest(path):
    """The SHA-256 of a .keras file's weights, by their values.

    The file's own bytes have the time and, in layers' names, how many layers the process had made.
    """
    total = hashlib.sha256()

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            total.update(f"{name}\0{node.dtype}\0{node.shape}\0".encode() + node[()].tobytes())

    with (
        zipfile.ZipFile(path) as archive,
        archive.open("model.weights.h5") as weights,
        h5py.File(weights) as file,
    ):
        file.visititems(add)
    return total.hexdigest()


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
