"""Thinning: the set F^(k) of classifiers that the mask is trained against, kept small.

The paper draws the critic of step k from F^(k), the classifiers of the steps so far. `Thinning`
says which of them are kept and how often one is drawn; `Snapshots` holds them.
"""

import dataclasses
import re

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Thinning:
    """Which past classifiers are kept, and how often one of them is the critic.

    Attributes:
        fixed: the critic is always f^(0), as the classifier never moves (the baseline, CDSM).
        first: keep f^(0), the classifier before the alternation.
        every: keep every n-th step's classifier; 0 keeps none.
        capacity: how many are kept at most.
        probability: of drawing a kept classifier, evenly, rather than the present one.

    When the set is full one of them goes, drawn evenly, as in the paper.
    """

    fixed: bool = False
    first: bool = False
    every: int = 0
    capacity: int = 30
    probability: float = 0.5

    def __post_init__(self):
        if self.every < 0 or self.capacity < 0 or not 0 <= self.probability <= 1:
            raise ValueError(f"a thinning's numbers are out of range; found {self}")
        keeps = self.first or self.every > 0
        if keeps and (self.fixed or self.capacity == 0):
            raise ValueError(f"a thinning that keeps classifiers has room for them; found {self}")

    @classmethod
    def named(cls, name, **changes):
        """The paper's thinnings by name: F, L, FL, and L<n> such as L100 and L1000."""
        if name == "F":
            return cls(fixed=True, capacity=0, probability=0.0)
        if name == "L":
            return cls(capacity=0, probability=0.0)
        if name == "FL":
            return cls(first=True, **{**changes, "capacity": 1})
        if match := re.fullmatch(r"L([1-9]\d*)", name):
            return cls(every=int(match[1]), **changes)
        raise ValueError(f"thinning is F, L, FL or L<n> such as L100; found {name!r}")

    def is_due(self, step):
        """Whether the classifier after `step` steps (0: before the first) is to be kept."""
        if step == 0:
            return self.first
        return self.every > 0 and step % self.every == 0


class Snapshots(tf.Module):
    """The kept classifiers: copies of a classifier's weights and BatchNorm statistics.

    To be made outside a distribution strategy's scope: then there is one copy a machine, which
    every replica reads. Draws depend on the seed and the step alone, so every replica draws the
    same one, and so does a resumed run.

    Args:
        classifier: the `keras.Model` whose weights are copied.
        thinning: a `Thinning`.
        seed: of every draw.
        dtype: that the copies are kept in, "float32" or, in half the memory, "bfloat16".
    """

    def __init__(self, classifier, thinning, seed=0, dtype="float32"):
        super().__init__(name="snapshots")
        self.thinning = thinning
        self.capacity = thinning.capacity
        self.seed = seed
        self.stored = tf.Variable(0, trainable=False, dtype=tf.int64, name="stored")
        self.slots = [
            tf.Variable(tf.zeros((self.capacity, *weight.shape), dtype), trainable=False)
            for weight in _weights(classifier)
        ]

    def held(self):
        """How many classifiers are held now, an int64 tensor."""
        return tf.minimum(self.stored, self.capacity)

    def store(self, classifier):
        """Copy the classifier, over another one when there is no room; outside `strategy.run`."""
        count = int(self.stored)
        slot = count
        if count >= self.capacity:
            slot = int(self._random(count, purpose=2, maxval=self.capacity))
        for slots, weight in zip(self.slots, _weights(classifier), strict=True):
            slots[slot].assign(tf.cast(weight.value, slots.dtype))
        self.stored.assign_add(1)

    def draws_past(self, step):
        """Whether the critic of this step is a kept classifier, a bool tensor."""
        return (self._random(step, purpose=0) < self.thinning.probability) & (self.stored > 0)

    def draw_kind(self, step, others):
        """Whose classifier the critic of this step is, an int32 tensor.

        0 is the present one and 1 a kept one; 2 and more are those of `others` architectures, each
        drawn as often as the first, 0 and 1 together.
        """
        architecture = self._random(step, purpose=4, maxval=1 + others)
        own = tf.cast(self.draws_past(step), tf.int64)
        return tf.cast(tf.where(architecture == 0, own, 1 + architecture), tf.int32)

    def draw(self, step):
        """The weights of one kept classifier in float32, drawn evenly, trainable ones first."""
        slot = self._random(step, purpose=1, maxval=self.held())
        return [tf.cast(tf.gather(slots, slot), tf.float32) for slots in self.slots]

    def _random(self, step, purpose, maxval=None):
        """A number from (seed, step, purpose) alone: in [0, 1), or an integer below maxval."""
        # The draw of an int32 is another one.
        step = tf.cast(step, tf.int64)
        seed = tf.random.experimental.stateless_fold_in((self.seed, purpose), step)
        dtype = tf.float32 if maxval is None else tf.int64
        return tf.random.stateless_uniform((), seed, maxval=maxval, dtype=dtype)


def _weights(classifier):
    """Weights and BatchNorm statistics in the order of `keras.Model.stateless_call`."""
    return [*classifier.trainable_variables, *classifier.non_trainable_variables]
