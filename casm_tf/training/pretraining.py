"""Training a classifier on clean images: it has to be good before the alternation starts."""

import numpy as np
import tensorflow as tf

from casm_tf import networks, objectives
from casm_tf.stepwise import Stepwise

# Below these the alternation has little to go by.
_LEAST_ACCURACY, _LEAST_CONFIDENCE = 0.5, 0.1


class Pretraining(Stepwise):
    """A classifier and the optimizer that trains it on the cross-entropy of clean images.

    Args:
        classifier: images -> {"logits", "maps"}, of `networks.classifier`.
        optimizer: a `keras.Optimizer`; it is built here, so that a checkpoint restores it whole.
        head_only: train the last layer alone, on a network that others trained: the rest, and
            BatchNorm's statistics, stay as they are.
        jit_compile: compile the step with XLA.
    """

    def __init__(self, classifier, optimizer, head_only=False, jit_compile=False):
        super().__init__("pretraining", ("loss", "accuracy"))
        self.classifier = classifier
        self.head_only = head_only
        self.compile(jit_compile=jit_compile)
        self.classifier_optimizer = optimizer
        network = networks.head(classifier) if head_only else classifier
        self.trained_variables = network.trainable_variables
        optimizer.build(self.trained_variables)

    def call(self, images, training=False):
        return self.classifier(images, training=training)["logits"]

    @property
    def steps_taken(self):
        return self.classifier_optimizer.iterations

    def train_step(self, data):
        """A step on this replica's part of a batch (images, labels); `CASM.train_step`'s dict."""
        replicas = tf.distribute.get_replica_context()
        count = replicas.all_reduce("sum", tf.cast(tf.shape(data[0])[0], tf.float32))
        with tf.GradientTape() as tape:
            values = self._objectives(*data, training=True)
            loss = tf.reduce_sum(values["loss"]) / count
        gradients = tape.gradient(loss, self.trained_variables)
        self.classifier_optimizer.apply(gradients, self.trained_variables)
        self.watch(values)
        statistics = networks.share_statistics(self.classifier)
        norm = tf.linalg.global_norm([loss, *gradients, *statistics])
        return {"finite": tf.cast(tf.math.is_finite(norm), tf.float32)}

    @property
    def state(self):
        return {
            "classifier": self.classifier.variables,
            "classifier_optimizer": self.classifier_optimizer.variables,
        }

    def _objectives(self, images, labels, training):
        logits = self(images, training=training and not self.head_only)
        return {
            "loss": objectives.cross_entropy(logits, labels),
            "accuracy": objectives.is_right(logits, labels),
        }


def warning_of_a_poor_classifier(classifier, batches, is_labelled):
    """One line where a classifier knows too little for the alternation to mean anything, or None.

    It has to be right on half of the images, or, where its predictions are the targets, sure of
    them to a tenth. `batches` are {"images", "labels"}.
    """
    sure, right = [], []
    for batch in batches:
        probabilities = tf.nn.softmax(classifier(batch["images"], training=False)["logits"]).numpy()
        sure += probabilities.max(axis=1).tolist()
        right += (probabilities.argmax(axis=1) == batch["labels"].numpy()).tolist()
    if is_labelled:
        share, found = np.mean(right), "is right on {:.0%} of the validation pictures only"
        least, help_ = _LEAST_ACCURACY, "train it longer (--pretraining_steps)"
    else:
        share, found = np.mean(sure), "is sure of its predictions to {:.0%} only"
        least, help_ = _LEAST_CONFIDENCE, "take one that knows such pictures"
    if share >= least:
        return None
    return (
        f"warning: the classifier {found.format(share)}, and masks are as good as it is: {help_}, "
        "or begin with --flagfile=configs/finetune.flags"
    )
