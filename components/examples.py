"""What components.example_gen leaves: examples.json says how to find a prepared data set."""

import json
import pathlib

from casm_tf.host import files

_FILE = "examples.json"
DATA = "data"  # a folder for the data beside it


def write(directory, settings, images, digest):
    """Write it: `open_dataset`'s settings, {split: images}, the digest of the examples.

    A "data_dir" of None in the settings is the folder beside the file.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    description = {"settings": settings, "images": images, "digest": digest}
    with files.replacing(directory / _FILE) as path:
        path.write_text(json.dumps(description, indent=2) + "\n")


def read(directory):
    """What was written, with the data's own folder in place of None.

    Raises OSError where there is none and ValueError where it is no such file.
    """
    directory = pathlib.Path(directory)
    description = files.read_json(directory / _FILE, "settings")
    if description["settings"].get("data_dir") is None:
        description["settings"]["data_dir"] = str(directory / DATA)
    return description


def data_dir(directory, other=None):
    """Where the data are: `other` if it is given, else as a directory of examples says, or None."""
    if other is not None or directory is None:
        return other
    return read(directory)["settings"]["data_dir"]
