"""What a student is trained on in a round: batches of views, and whole pictures for validation."""

import dataclasses

import numpy as np
import tensorflow as tf

from casm_tf.second_stage import sharpening
from casm_tf.training import loop

_SIZES = (5 / 7, 1, 9 / 7)  # of the model's own, in turns: 160, 224 and 288 pixels
_HELD = 20  # every so many pictures one is for validation alone


@dataclasses.dataclass(frozen=True)
class Learned:
    """What is known of N pictures.

    Attributes:
        pictures: uint8 [N, PIXELS, PIXELS, 3].
        labels: uint8 [N, CELLS, CELLS], 255 = salient.
        predictions: float16 [N, K], probabilities.
        chances: [N], of `sharpening.chances`.
    """

    pictures: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    chances: np.ndarray


def batches(learned, dataset, image_size, batch_size, smallest, seed):
    """The `loop.Batches` of a round, as `Student.train_step` takes them, on one machine.

    A batch depends on the seed and its step alone. Its size is drawn in turns from 5/7 to 9/7 of
    `image_size`, so that masks are good at any; `smallest` is of `sharpening.views`.
    """
    held = np.arange(len(learned.pictures)) % _HELD == 0
    arrays = (learned.pictures, learned.labels, learned.predictions)
    of_training = [tf.constant(array) for array in arrays]
    chances = tf.constant(np.where(held, 0, learned.chances), tf.float32)
    sizes = [round(image_size * share / 32) * 32 for share in _SIZES]

    def prepared(images, labels, predictions):
        images = (images / 255 - dataset.mean) / dataset.std  # of sizes not known in the graph
        return images, {"label": labels, "prediction": tf.cast(predictions, tf.float32)}

    def view(step):
        size = tf.gather(sizes, step % len(sizes))
        place = (batch_size, size, smallest, tf.stack([seed, step]))
        return prepared(*sharpening.views(*of_training, chances, *place))

    def whole(image, label, prediction):
        size = (image_size, image_size)
        image = tf.image.resize(image, size, antialias=True)
        label = tf.image.convert_image_dtype(label[..., None], tf.float32)
        return image, tf.image.resize(label, size), prediction

    def training(skip, part):
        del part
        return tf.data.Dataset.range(skip, np.iinfo(np.int64).max).map(view).prefetch(2)

    def validation(part):
        del part
        there = tf.data.Dataset.from_tensor_slices(tuple(array[held] for array in arrays))
        return there.map(whole).batch(batch_size).map(prepared)

    return loop.Batches(batch_size, training, validation)
