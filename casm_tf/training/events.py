"""What a training writes for TensorBoard, and what each name there means."""

import tensorflow as tf

from casm_tf.host import files

ROOM = 2**20  # bytes that scalars and pictures may take until the disk is looked at again

# By the last part of a name; averages are over images (docs/method.md).
_DESCRIPTIONS = {
    "loss": "The cross-entropy on clean images.",
    "classifier_loss": "L: what the classifier minimises, on clean and masked images.",
    "score": "S: what the decoder maximises, evidence + lambda_R size - lambda_TV mask_tv, less "
    "lambda_in times the loss on what the mask keeps.",
    "evidence": "How unsure the critic is of the masked image: its entropy, or its loss.",
    "size": "R: the size term, the larger the smaller a mask is that hides the object.",
    "accuracy": "The share of clean images that the classifier is right on.",
    "accuracy_masked_out": "The share of masked images that the critic is still right on.",
    "mask_mean": "The share of the image that the mask covers.",
    "mask_entropy": "The mean of -m log2 m, in bits: 0 where every value of a mask is 0 or 1.",
    "mask_tv": "The masks' total variation: the mean square of neighbours' differences.",
    "lambda_size": "lambda_R, the weight of the size term.",
    "snapshots": "How many past classifiers are kept.",
    "classifier": "The classifier's learning rate.",
    "decoder": "The decoder's learning rate.",
    "images_per_second": "The speed of the steps, without validation and checkpoints.",
    "share_waiting_for_input": "The share of a step's time that it waits for its batch.",
    "masks": "Validation pictures, and below each itself in grey with its mask in orange.",
}


class Events:
    """TensorBoard's file in a directory, made when it is first written to."""

    def __init__(self, directory, writes):
        self.directory, self.writes = directory, writes
        self._writer = None

    def write(self, step, scalars, pictures=dict):
        """{name: number}, and () -> {name: uint8 [H, W, 3]}; OSError where the disk is full."""
        if not self.writes:
            return
        files.check_room(self.directory, ROOM)
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.directory))
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value, description=_description(name))
            for name, picture in pictures().items():
                tf.summary.image(name, picture[None], description=_description(name))

    def close(self):
        if self._writer is not None:
            self._writer.close()


def _description(name):
    return _DESCRIPTIONS.get(name.rpartition("/")[2])
