"""Who tells where something is: the first stage's masks and activations, later the student."""

import keras
import numpy as np
import tensorflow as tf

from casm_tf import networks
from casm_tf.second_stage import sharpening
from casm_tf.serving.masks import STRIDE


def of_first_stage(first, names, dataset):
    """Pictures uint8 [B, PIXELS, PIXELS, 3] -> the mean of some of `TEACHERS`, [B, CELLS, CELLS].

    Masks are looked at in two sizes, activations in the pictures' own. `dataset` normalises.
    """
    maps = networks.on_open_inputs(
        keras.Model(first.classifier.input, first.classifier.output["maps"][-1])
    )
    sizes = (first.image_size, larger(first.image_size))

    @tf.function
    def activations(images):
        return sharpening.activation(maps(images, training=False))

    kinds = {
        "masks": lambda images: sharpening.seen(first.masks, images, sizes),
        "activations": activations,
    }

    def starts(pictures):
        images = dataset.normalise(pictures)
        return np.mean([kinds[name](images) for name in names], axis=0)

    return starts


def of_student(student, dataset):
    """The same from the student's own masks, at the larger size alone: there they are better."""
    sizes = (larger(student.classifier.input_shape[1]),)
    seen = tf.function(lambda images: sharpening.seen(lambda x: student(x)["mask"], images, sizes))
    return lambda pictures: seen(dataset.normalise(pictures)).numpy()


def larger(image_size):
    """The size of the larger views: about 10/7 of the model's own, 224 -> 320."""
    return STRIDE * round(image_size * 10 / 7 / STRIDE)
