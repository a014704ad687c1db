"""What is sharpened: a mask model that is there, and its classifier as it was at first."""

import dataclasses
import hashlib
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
        classifier: of `networks.classifier`, as it was before the alternation.
        weights: {path: array}, the mask model's own.
        architecture: the classifier's.
        image_size: pixels a side that the model was made for.
    """

    place: pathlib.Path
    masks: Callable
    classifier: object
    weights: dict
    architecture: str
    image_size: int

    def digest(self):
        """The SHA-256 of all that labels and the student start from."""
        total = hashlib.sha256()
        for path, value in sorted(self.weights.items()):
            total.update(path.encode() + np.ascontiguousarray(value).tobytes())
        for variable in self.classifier.variables:
            total.update(variable.numpy().tobytes())
        return total.hexdigest()

    def student(self):
        """A classifier with a map at half the image's size, and a fine decoder, for a student.

        Of a model that has been sharpened already they are the model's; else the classifier is as
        it was before the alternation, and the decoder new.
        """
        classifier = networks.with_finest_map(networks.copy(self.classifier))
        decoder = networks.fine_decoder(networks.map_shapes(classifier), self.image_size)
        if {v.path for v in decoder.variables} <= set(self.weights):
            for variable in (*classifier.variables, *decoder.variables):
                if variable.path in self.weights:  # not a dropout's seed
                    variable.assign(self.weights[variable.path])
        return classifier, decoder


def opened(source):
    """The `FirstStage` of a run of casm_tf.train, or of what components.pusher made.

    A run has its first classifier; of an exported model the classifier is its own.

    Raises ValueError for what is no mask model of ImageNet's 1,000 classes that takes images of any
    multiple of 32, or of other networks; OSError for what cannot be read.
    """
    place = mask_model.located(source)
    if isinstance(place, str):
        raise ValueError(f"a server's model cannot be sharpened; found {place}")
    return (_of_run if (place / "run.json").is_file() else _of_exported)(place)


def _of_run(place):
    run = run_directory.read(place)
    _check_labels(place, run["labels"])
    model = keras_files.load_keras(run_directory.model_of(place))
    size = servable.checked_size(model, run["labels"], run["mean"], run["std"])
    scalable = servable.open_sized(model)
    if scalable is None or size % mask_model.masks.STRIDE:
        raise ValueError(f"{place} takes images of {size} pixels only")
    architecture = run["flags"]["classifier"]
    classifier = networks.classifier(architecture, size, len(run["labels"]))
    networks.load_weights(classifier, place / run_directory.FIRST_CLASSIFIER)
    masks = tf.function(lambda images: scalable(images, training=False)["mask"])
    weights = {variable.path: variable.numpy() for variable in model.variables}
    return FirstStage(place, masks, classifier, weights, architecture, size)


def _of_exported(place):
    model = mask_model.exported(place)
    described = files.read_json(place / mask_model.DESCRIPTION)
    missing = {"labels", "image_size", "mean", "std"} - set(described)
    if missing or "any_size" not in model.signatures:
        raise ValueError(f"{place} is no mask model that takes images of any size")
    _check_labels(place, described["labels"])
    size = described["image_size"]
    mean, std = (np.float32(described[name]) for name in ("mean", "std"))
    classifier = networks.classifier(_EXPORTED, size, len(described["labels"]))
    servable.fill(classifier, None, place, with_head=True)

    def masks(images, model=model):  # which has to live as long as its signatures
        return model.signatures["any_size"](images=255 * (images * std + mean))["mask"]

    return FirstStage(place, masks, classifier, servable.read_weights(place), _EXPORTED, size)


def _check_labels(place, labels):
    if tuple(labels) != pretrained.imagenet_labels():
        raise ValueError(
            f"{place}: expected a model of ImageNet's 1,000 classes, tench, goldfish, ...; found "
            f"{len(labels)}, {', '.join(map(str, labels[:3]))}, ..."
        )
