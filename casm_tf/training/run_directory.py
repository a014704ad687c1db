"""A run is a directory: run.json says what was run, so that the same command can resume it.

It also says what the run was trained on: labels, normalisation and which data
(`Dataset.description`). What is made of a run takes them from there.
"""

import json
import pathlib
import platform

import keras
import tensorflow as tf

import casm_tf
from casm_tf import objectives
from casm_tf.data import datasets, input_pipeline
from casm_tf.host import files

_FORM = {"flags": {}, "labels": [], "mean": [], "std": [], "data": {}}
# The classifier before the alternation, f^(0).
FIRST_CLASSIFIER = "classifier.weights.h5"


def check_same(directory, settings, changeable, defaults=None):
    """Raise ValueError where the directory holds a run with other settings.

    Settings are {flag: value}; those named in `changeable` may differ. A run that is older than a
    flag has that one's default, of `defaults`. Raises OSError where the directory cannot be written
    in.
    """
    directory = pathlib.Path(directory)
    files.check_writable(directory)
    if not (directory / "run.json").exists():
        return
    before = {**(defaults or {}), **read(directory)["flags"]}
    for name, value in settings.items():
        if name not in changeable and before.get(name) != value:
            raise ValueError(
                f"{directory} holds a run with --{name}={before.get(name)}; found {value}. "
                "Take another directory or the same flags"
            )


def check_same_data(directory, description):
    """Raise ValueError, with what differs, where the directory holds a run on other data.

    The description is of `Dataset.description`.
    """
    directory = pathlib.Path(directory)
    if not (directory / "run.json").exists():
        return
    before = read(directory)
    there, found = (part["labels"] for part in (before, description))
    if there != found:
        gone, new = (
            ", ".join([label for label in one if label not in other][:3]) or "none"
            for one, other in ((there, found), (found, there))
        )
        raise ValueError(
            f"{directory} holds a run on {len(there)} classes; found {len(found)}: "
            f"gone are {gone}, new are {new}"
        )
    there, found = (
        {**part["data"], "mean": part["mean"], "std": part["std"]} for part in (before, description)
    )
    for name in (*there, *found):
        if there.get(name) != found.get(name):
            raise ValueError(
                f"{directory} holds a run on other data, with {name}: {there.get(name)}; "
                f"found {found.get(name)}. Put them back, or take another directory"
            )


def claimed(directory):
    """A context that keeps other processes from training in the directory.

    Raises BlockingIOError where another one does, naming it.
    """

    def refuse(holder):
        raise BlockingIOError(f"{directory} is in use by {holder}; two runs cannot share it")

    return files.locked(pathlib.Path(directory) / "lock", refuse)


def describe(directory, settings, description):
    """Make the directory and write run.json: the settings, a `Dataset.description`, the versions.

    Raises ValueError where a run on other data is there.
    """
    check_same_data(directory, description)
    directory.mkdir(parents=True, exist_ok=True)
    description = {
        "flags": settings,
        **description,
        "versions": {
            "casm_tf": casm_tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
        },
    }
    with files.replacing(directory / "run.json") as path:
        path.write_text(json.dumps(description, indent=2) + "\n")


def keep_first(classifier, directory):
    """Write f^(0) into a run. Raises OSError where there is no room."""
    with files.replacing(directory / FIRST_CLASSIFIER) as path:
        # On a full disk HDF5 ends the process.
        files.check_room(
            directory, 4 * classifier.count_params() + 4096 * len(classifier.variables)
        )
        classifier.save_weights(path)
        files.sync(path)


def read(directory):
    """What `describe` wrote. Raises OSError where there is no run, ValueError for another file."""
    path = pathlib.Path(directory) / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"there is no run in {directory}")
    found = files.read_json(path)
    if not isinstance(found, dict) or any(
        not isinstance(found.get(name), type(part)) for name, part in _FORM.items()
    ):
        raise ValueError(
            f"{path} does not say what data the run was trained on; older runs are not read"
        )
    return found


def dataset_of(directory, data_dir=None):
    """A run's data set, in the run's data_dir or in another one.

    Raises what `of_all_classes` raises, and ValueError where it is not what the run was trained on.
    """
    run = read(directory)
    dataset = input_pipeline.of_all_classes(run["flags"], data_dir)
    if run["flags"].get("classes"):  # their list may have been moved or edited since
        dataset = datasets.of_labels(dataset, run["labels"])
    check_same_data(directory, dataset.description())
    return dataset


def model_of(directory):
    """The path of a run's model.keras. Raises FileNotFoundError where it is not finished."""
    path = pathlib.Path(directory) / "model.keras"
    if not path.exists():
        read(directory)
        raise FileNotFoundError(
            f"the run in {directory} is not finished; the same train command resumes it"
        )
    return path


def data_name(settings):
    """What the data of a run's flags {name: value} are called: pictures by their folder."""
    name, folder = settings["dataset"], settings.get("image_dir")
    if name != "image_folder" or folder is None:
        return name
    return f"{pathlib.Path(folder).absolute().name} ({name})"


def trained_by(run):
    """How a run (of `read`) was trained, in a line; what its flags left open is as it was taken."""
    settings = run["flags"]
    if "round_steps" in settings:  # of casm_tf.sharpen
        rounds, teachers = (", ".join(settings[name]) for name in ("round_steps", "teachers"))
        return (
            f"sharpened from {pathlib.Path(settings['model']).name}, {teachers}; classifier "
            f"{settings['classifier']}, seed {settings['seed']}, steps {rounds}"
        )
    words = [f"{name} {settings[name]}" for name in ("thinning", "score", "classifier", "seed")]
    size = settings["lambda_size"]
    if size is None:
        classes = len(run["labels"])
        size = objectives.original_lambda(settings["score"], settings["thinning"], classes)
    words.append(f"lambda_size {size:.4g}")
    if settings.get("first_lambda_steps"):
        first, steps = settings["first_lambda_size"], settings["first_lambda_steps"]
        words[-1] += f" ({first:.4g} for the first {steps} steps)"
    if settings.get("mask_size") is not None:
        words[-1] = f"mask_size {settings['mask_size']:.4g}"
    unusual = {"masked_in_weight": 0, "fill": "mean", "levels": None, "aligned": False}
    for name, usual in {**unusual, "critics": []}.items():
        if settings.get(name, usual) != usual:
            words.append(f"{name} {settings[name]}")
    length = "epochs" if settings["steps"] is None else "steps"
    return ", ".join([*words, f"{length} {settings[length]}"])


def names(paths, taken):
    """{name: path} of runs: their folders' names, or paths where a name does not tell enough.

    That is a number, as a pipeline's executions have, another run's name, or one in `taken`.
    """
    folders = [pathlib.Path(path).absolute().name for path in paths]
    return {
        path if name.isdigit() or name in taken or folders.count(name) > 1 else name: path
        for name, path in zip(folders, paths, strict=True)
    }
