"""The mask model for photographs that comes with the package, and the names of its classes."""

import pathlib

_DIRECTORY = pathlib.Path(__file__).parent
MODEL = _DIRECTORY / "photographs"  # a SavedModel, as components.pusher makes them


def imagenet_labels():
    """The names of ImageNet's 1,000 classes, in the order of every network's outputs."""
    return tuple((_DIRECTORY / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())


def fill(classifier, decoder, with_head):
    """Give a classifier and a decoder the shipped model's weights; of the head only if asked to.

    Raises ValueError for networks of another kind.
    """
    from casm_tf import networks, servable  # the rest of this file needs no TensorFlow

    found = servable.read_weights(MODEL)
    variables = {v.path: v for v in (*classifier.variables, *decoder.variables)}
    if not with_head:
        for variable in networks.head(classifier).variables:
            del variables[variable.path]
    for path, variable in variables.items():
        if path not in found or found[path].shape != tuple(variable.shape):
            raise ValueError(
                f"the shipped model is of another kind: its weights do not fit at {path}; "
                "configs/finetune.flags has the flags that do"
            )
    for path, variable in variables.items():
        variable.assign(found[path])
