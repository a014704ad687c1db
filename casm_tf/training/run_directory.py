"""A run is a directory: run.json says what was run, so that the same command can resume it."""

import contextlib
import json
import pathlib
import platform

import keras
import tensorflow as tf

import casm_tf
from casm_tf import objectives
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
    return json.loads((pathlib.Path(directory) / "run.json").read_text())


def data_name(settings):
    """What the data of a run's flags {name: value} are called: pictures by their folder."""
    name, folder = settings["dataset"], settings.get("image_dir")
    if name != "image_folder" or folder is None:
        return name
    return f"{pathlib.Path(folder).absolute().name} ({name})"


def trained_by(run):
    """How a run (of `read`) was trained, in a line; what its flags left open is as it was taken."""
    settings = run["flags"]
    words = [f"{name} {settings[name]}" for name in ("thinning", "score", "classifier", "seed")]
    size = settings["lambda_size"]
    if size is None:
        classes = len(run["labels"])
        size = objectives.original_lambda(settings["score"], settings["thinning"], classes)
    words.append(f"lambda_size {size:.4g}")
    if settings.get("first_lambda_steps"):
        first, steps = settings["first_lambda_size"], settings["first_lambda_steps"]
        words[-1] += f" ({first:.4g} for the first {steps} steps)"
    length = "epochs" if settings["steps"] is None else "steps"
    return ", ".join([*words, f"{length} {settings[length]}"])


def names(paths, taken):
    """{name: path} of runs: their folders' names, or paths where a name would not tell enough.

    That is where it is a number, as a pipeline's executions have, or another run's or in `taken`.
    """
    folders = [pathlib.Path(path).name for path in paths]
    return {
        path if name.isdigit() or name in taken or folders.count(name) > 1 else name: path
        for name, path in zip(folders, paths, strict=True)
    }
