"""Who tells where something is: the first stage's masks and activations, later the student."""

import keras
import numpy as np
import tensorflow as tf

from casm_tf import networks
from casm_tf.second_stage import sharpening


def of_first_stage(first, names, dataset):
    """Pictures uint8 [B, PIXELS, PIXELS, 3] -> the mean of some of `TEACHERS`, [B, CELLS, CELLS].

    Masks are looked at in two sizes, activations in the pictures' own. `dataset` normalises.
    """
    maps = networks.on_open_inputs(
        keras.Model(first.classifier.input, first.classifier.output["maps"][-1])
    )
    sizes = _sizes(first.image_size)

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
    sizes = _sizes(student.classifier.input_shape[1])[1:]
    seen = tf.function(lambda images: sharpening.seen(lambda x: student(x)["mask"], images, sizes))
    return lambda pictures: seen(dataset.normalise(pictures)).numpy()


def _sizes(image_size):
    """What masks are looked at in: the model's size, and about 10/7 of it, a multiple of 32."""
    return image_size, round(image_size * 10 / 7 / 32) * 32
