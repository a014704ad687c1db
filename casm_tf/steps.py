"""A training step in two halves: what it would change is found first, and taken if it is finite."""

import keras
import tensorflow as tf


def call(function, *args):
    """Run a function on the one replica that there is; `run` of a strategy's has the same form."""
    return function(*args)


class Model(keras.Model):
    """A `keras.Model` whose steps can be refused.

    `find_step` changes nothing, not even BatchNorm's statistics; `take_step` changes everything. So
    a step whose losses or gradients are not finite can be left out on every replica alike
    (training.py). `fit` takes every step.
    """

    def find_step(self, data, run=call):
        """What a step on a batch (images, labels) would change: a dict of tensors.

        "refused" of it is 1.0 where a loss, a gradient or one of BatchNorm's statistics is not
        finite, else 0.0. With `run`, which calls a function on every replica of a strategy, data
        and what comes back are per replica.
        """
        raise NotImplementedError

    def take_step(self, found):
        """Change the weights, the statistics and the averages as found; on every replica."""
        raise NotImplementedError

    @property
    def state(self):
        """All that a checkpoint has to hold: {name: its variables}. Averages are not among it."""
        raise NotImplementedError

    def train_step(self, data):
        return self.take_step(self.find_step(data))

    def update_averages(self, values):
        """Add values of images, {name: float32 [B]}, to `averages`, {name: metric}; the results."""
        for name, value in values.items():
            self.averages[name].update_state(value)
        return {name: average.result() for name, average in self.averages.items()}


def images_of_all(data):
    """How many images all replicas have in their batches (images, labels), a float32 tensor."""
    count = tf.cast(tf.shape(data[0])[0], tf.float32)
    return tf.distribute.get_replica_context().all_reduce("sum", count)


def is_not_finite(*tensors):
    """1.0 where a number is NaN, infinite or more than 1e19 (its square is infinite); else 0.0."""
    tensors = [tensor for tensor in tensors if tensor.dtype.is_floating]  # not a dropout's seeds
    return 1.0 - tf.cast(tf.math.is_finite(tf.linalg.global_norm(tensors)), tf.float32)


def assigned(scope, variables):
    """What variables were assigned in a `keras.StatelessScope`; what they are where nothing was."""
    values = [scope.get_current_value(variable) for variable in variables]
    return [
        tf.convert_to_tensor(variable) if value is None else value
        for variable, value in zip(variables, values, strict=True)
    ]


def assign_on_all(variables, values):
    """Assign the mean over the replicas, so that what one of them holds is what all hold.

    Integers, a dropout's seeds, are the same on all of them.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        floats = [value for value in values if value.dtype.is_floating]
        means = iter(context.all_reduce("mean", floats))
        values = [next(means) if value.dtype.is_floating else value for value in values]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
