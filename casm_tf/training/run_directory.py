"""A run is a directory: run.json says what was run, so that the same command can resume it."""

import contextlib
import json
import pathlib
import platform

import keras
import tensorflow as tf

import casm_tf
from casm_tf.host import files

# The classifier before the alternation, f^(0).
FIRST_CLASSIFIER = "classifier.weights.h5"


def check_same(directory, settings, changeable):
    """Raise ValueError where the directory holds a run with other settings.

    Settings are {flag: value}; those named in `changeable` may differ. Raises OSError where the
    directory cannot be written in.
    """
    directory = pathlib.Path(directory)
    files.check_writable(directory)
    if not (directory / "run.json").exists():
        return
    before = read(directory)["flags"]
    for name, value in settings.items():
        if name not in changeable and before.get(name) != value:
            raise ValueError(
                f"{directory} holds a run with --{name}={before.get(name)}; found {value}. "
                "Take another directory or the same flags"
            )


@contextlib.contextmanager
def claimed(directory):
    """Keep other processes from training in the directory.

    Raises BlockingIOError where another one does, naming it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(pathlib.Path(directory) / "lock", waits=False))
        except BlockingIOError as error:
            raise BlockingIOError(f"{directory} is {error}; two runs cannot share it") from error
        yield


def describe(directory, settings, labels):
    """Make the directory and write run.json: the settings, the labels, the versions."""
    directory.mkdir(parents=True, exist_ok=True)
    description = {
        "flags": settings,
        "labels": labels,
        "versions": {
            "casm_tf": casm_tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
        },
    }
    with files.replacing(directory / "run.json") as path:
        path.write_text(json.dumps(description, indent=2) + "\n")


def read(directory):
    """What `describe` wrote. Raises OSError where there is no run and ValueError for no JSON."""
    return files.read_json(pathlib.Path(directory) / "run.json")
