"""What is sharpened: a mask model that is there, and its classifier as it was at first."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from casm_tf import networks, pretrained
from casm_tf.host import files
from casm_tf.networks import keras_files
from casm_tf.serving import mask_model, servable
from casm_tf.training import run_directory

_EXPORTED = "efficientnet_lite0"  # what an exported model has to be made of


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """A mask model and its classifier before the alternation.

    Attributes:
        place: the run's or the exported model's directory.
        masks: normalised images float32 [B, S, S, 3] -> masks [B, S, S, 1], S a multiple of 32.
        classifier: of `networks.classifier`, at rest; its maps are what the student reads.
        decoder: {path of a weight: array} of a decoder that is fine already; else empty.
        architecture: the classifier's.
        image_size: pixels a side that the model was made for.
    """

    place: pathlib.Path
    masks: Callable
    classifier: object
    decoder: dict
    architecture: str
    image_size: int


def opened(source, classifier_weights=None):
    """The `FirstStage` of a run of casm_tf.train, or of what components.pusher made.

    A run has its first classifier; of an exported model the classifier is its own, unless
    `classifier_weights`, a .weights.h5 file, are those before its alternation.

    Raises ValueError for what is no mask model of ImageNet's 1,000 classes that takes images of any
    multiple of 32, or of other networks; OSError for what cannot be read.
    """
    place = mask_model.located(source)
    if isinstance(place, str):
        raise ValueError(f"a server's model cannot be sharpened; found {place}")
    first = (_of_run if (place / "run.json").is_file() else _of_exported)(place)
    if classifier_weights:
        networks.load_weights(first.classifier, classifier_weights)
    return first


def _of_run(place):
    run = run_directory.read(place)
    _check_labels(place, run["labels"])
    model = keras_files.load_keras(run_directory.model_of(place))
    architecture, size = run["flags"]["classifier"], model.input_shape[1]
    scalable = servable.open_sized(model)
    if scalable is None:
        raise ValueError(f"{place} takes images of {size} pixels only")
    classifier = networks.classifier(architecture, size, len(run["labels"]))
    networks.load_weights(classifier, place / run_directory.FIRST_CLASSIFIER)
    masks = tf.function(lambda images: scalable(images, training=False)["mask"])
    weights = {variable.path: variable.numpy() for variable in model.variables}
    return FirstStage(place, masks, classifier, _of_decoder(weights), architecture, size)


def _of_exported(place):
    model = tf.saved_model.load(str(place))
    described = files.read_json(place / mask_model.DESCRIPTION)
    _check_labels(place, described["labels"])
    size = described["image_size"]
    mean, std = (np.float32(described[name]) for name in ("mean", "std"))
    classifier = networks.classifier(_EXPORTED, size, len(described["labels"]))
    servable.fill(classifier, None, place, with_head=True)

    def masks(images, model=model):  # which has to live as long as its signatures
        return model.signatures["any_size"](images=255 * (images * std + mean))["mask"]

    decoder = _of_decoder(servable.read_weights(place))
    return FirstStage(place, masks, classifier, decoder, _EXPORTED, size)


def _of_decoder(weights):
    """Those of a model's weights {path: array} that are a fine decoder's; none without one."""
    classifier = networks.with_finest_map(networks.classifier(_EXPORTED, 32, 1))
    names = {v.path for v in networks.fine_decoder(networks.map_shapes(classifier), 32).variables}
    return {path: weights[path] for path in names} if names <= set(weights) else {}


def _check_labels(place, labels):
    if tuple(labels) != pretrained.imagenet_labels():
        raise ValueError(
            f"{place}: expected a model of ImageNet's 1,000 classes; found {len(labels)}, "
            f"{', '.join(map(str, labels[:3]))}, ..."
        )
