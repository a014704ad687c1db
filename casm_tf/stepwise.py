"""What CASM and the pretraining have in common: a step on every replica, averages over images."""

import keras
import tensorflow as tf


class Stepwise(keras.Model):
    """A model that is trained a step at a time, on all replicas of its strategy.

    A subclass has `train_step(data)` -> {"finite": 1.0 where every number of the step was finite,
    else 0.0}, `_objectives(images, labels, training)` -> {name: float32 [B]} for `watch`, and
    `steps_taken`, a tensor.

    Args:
        name: the model's.
        watched: the names of what is averaged over images, for TensorBoard.
    """

    def __init__(self, name, watched):
        super().__init__(name=name)
        self.averages = {name: keras.metrics.Mean(name) for name in watched}

    def compile(self, jit_compile=False, **kwargs):
        """With `jit_compile` a step is compiled by XLA.

        Raises ValueError for steps_per_execution: `remember` is called between steps.
        """
        if kwargs.get("steps_per_execution", 1) != 1:
            raise ValueError("steps_per_execution is 1: snapshots are taken between steps")
        super().compile(optimizer=None, jit_compile=jit_compile, **kwargs)

    def save(self, *_, **__):
        """Raise NotImplementedError before there is a file, as `get_config` does."""
        self.get_config()

    def get_config(self):
        """Raise NotImplementedError: Keras's file would not have all that the model is made of."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be saved whole; save its mask model, "
            "networks.mask_model(model.classifier, model.decoder, model.encoder), or save_weights()"
        )

    def watch(self, values):
        """Take {name: float32 [B]} into the averages."""
        for name, value in values.items():
            self.averages[name].update_state(value)

    def run_step(self, data):
        """A step on all replicas: `train_step`'s dict, the mean over them."""
        return self.on_replicas(data)

    def on_replicas(self, *arguments):
        step = self.train_step
        if self.jit_compile:
            step = tf.function(step, jit_compile=True)
        found = self.distribute_strategy.run(step, arguments)
        return {
            name: self.distribute_strategy.reduce("mean", value, axis=None)
            for name, value in found.items()
        }

    def remember(self, step):
        """Keep of the model what is due after `step` steps, outside of `strategy.run`: nothing."""

    def test_step(self, data):
        self.watch(self._objectives(*data, training=False))
        return self.get_metrics_result()

    def make_train_function(self, force=False):
        """For `fit`: batches -> what `run_step` makes of the next one, and the averages so far."""
        if self.train_function is None or force:
            run_step = tf.function(self.run_step)
            self.train_function = lambda batches: self._step_of_fit(run_step, next(batches))

    def _step_of_fit(self, run_step, batch):
        if self.steps_taken == 0:  # later ones were kept when they were taken
            self.remember(0)
        found = run_step(batch)
        self.remember(int(self.steps_taken))
        return {**found, **self.get_metrics_result()}
