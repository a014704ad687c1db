"""Runs of casm_tf.train that a benchmark compares, trained where they are not there yet."""

import pathlib
import sys

from casm_tf.cli import program
from casm_tf.networks import keras_files
from casm_tf.training import run_directory


def model_of(run_dir, given):
    """The mask model of a run; one that is not finished is trained, or resumed, first.

    Args:
        run_dir: the run's directory.
        given: {flag of casm_tf.train: value}, a flagfile first; a flag of None is left out.
    """
    if not (pathlib.Path(run_dir) / "model.keras").exists():
        arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
        command = [sys.executable, "-m", "casm_tf.train", *arguments, f"--run_dir={run_dir}"]
        if program.call(command):
            raise program.UserError(f"{' '.join(command)} failed")
    with program.blaming("runs_dir"):
        return keras_files.load_keras(run_directory.model_of(run_dir))
