"""A tiny exported mask model for the tests."""

import keras
import numpy as np

from casm_tf import networks
from casm_tf.serving import export

SIZE = 32
LABELS = ("cat", "dog", "강아지")
MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.25, 0.3)


def tiny_model(classes=3, size=SIZE, aligned=False, smoothing=0.0):
    """Images -> {"mask", "logits"}, untrained, with masks that are neither flat nor grey."""
    keras.utils.set_random_seed(0)
    classifier = networks.classifier("small_resnet", size, classes)
    places = networks.map_places(classifier) if aligned else None
    shapes = networks.map_shapes(classifier)
    decoder = networks.decoder(shapes, size, 4, "bilinear", smoothing, places)
    kernel = decoder.get_layer("final").kernel
    kernel.assign(4 * kernel)
    outputs = classifier.output
    return keras.Model(
        classifier.input, {"mask": decoder(outputs["maps"]), "logits": outputs["logits"]}
    )


def export_tiny(directory, **settings):
    """Export the tiny model; returns the version's path."""
    return export.export_model(tiny_model(), directory, LABELS, MEAN, STD, **settings)


def normalised(pixels):
    return (np.asarray(pixels, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
