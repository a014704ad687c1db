"""The mask model for photographs that comes with the package, and the names of its classes."""

import pathlib

_DIRECTORY = pathlib.Path(__file__).parent
MODEL = _DIRECTORY / "photographs"  # a SavedModel, as components.pusher makes them


def imagenet_labels():
    """The names of ImageNet's 1,000 classes, in the order of every network's outputs."""
    return tuple((_DIRECTORY / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
