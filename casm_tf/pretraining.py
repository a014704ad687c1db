"""Training a classifier on clean images: it has to be good before the alternation starts."""

import keras
import tensorflow as tf

from casm_tf import networks, objectives, steps


class Pretraining(steps.Model):
    """A classifier and the optimizer that trains it on the cross-entropy of clean images.

    Args:
        classifier: images -> {"logits", "maps"}, of `networks.classifier`.
        optimizer: a `keras.Optimizer`; it is built here, so that a checkpoint restores it whole.
        head_only: train the last layer alone, on a network that others trained: the rest, and
            BatchNorm's statistics, stay as they are.
    """

    def __init__(self, classifier, optimizer, head_only=False):
        super().__init__(name="pretraining")
        self.classifier = classifier
        self.head_only = head_only
        self.averages = {name: keras.metrics.Mean(name) for name in ("loss", "accuracy")}
        self.compile(optimizer=None)
        self.classifier_optimizer = optimizer
        network = networks.head(classifier) if head_only else classifier
        self.trained_variables = network.trainable_variables
        optimizer.build(self.trained_variables)

    def call(self, images, training=False):
        return self.classifier(images, training=training)["logits"]

    def find_step(self, data, run=steps.call):
        return run(self._gradients, data, run(steps.images_of_all, data))

    def take_step(self, found):
        self.classifier_optimizer.apply(found["classifier"], self.trained_variables)
        steps.assign_on_all(self.classifier.non_trainable_variables, found["statistics"])
        return self.update_averages(found["values"])

    def test_step(self, data):
        return self.update_averages(self._objectives(*data, training=False))

    @property
    def state(self):
        return {
            "classifier": self.classifier.variables,
            "classifier_optimizer": self.classifier_optimizer.variables,
        }

    def _gradients(self, data, count):
        with keras.StatelessScope() as scope, tf.GradientTape() as tape:
            values = self._objectives(*data, training=True)
            loss = tf.reduce_sum(values["loss"]) / count
        gradients = tape.gradient(loss, self.trained_variables)
        statistics = steps.assigned(scope, self.classifier.non_trainable_variables)
        return {
            "classifier": gradients,
            "statistics": statistics,
            "values": values,
            "refused": steps.is_not_finite(loss, *gradients, *statistics),
        }

    def _objectives(self, images, labels, training):
        logits = self(images, training=training and not self.head_only)
        return {
            "loss": objectives.cross_entropy(logits, labels),
            "accuracy": objectives.is_right(logits, labels),
        }
