"""lambda_R: a number, a schedule, or the multiplier that gives masks of a chosen size."""

import math

import tensorflow as tf

_LOGARITHMS = (math.log(1e-2), math.log(1e3))  # between which lambda_R stays


def made(lambda_size):
    """A `Multiplier`, or a number or schedule (step -> number) with the methods of one."""
    return lambda_size if isinstance(lambda_size, Multiplier) else Given(lambda_size)


class Given:
    """lambda_R as it was given: it does not move."""

    variables = ()

    def __init__(self, lambda_size):
        self._at = lambda_size if callable(lambda_size) else lambda step: lambda_size

    def __call__(self, step):
        return self._at(step)

    def move(self, mean_mask):
        """Nothing, after a step with masks of this mean."""
        del mean_mask  # AutoGraph has no way with an empty body


class Multiplier:
    """lambda_R that moves by dual ascent until masks cover as much of an image as is wished.

    The decoder maximises the evidence under the constraint that the mean of m is `mask_size`, and
    lambda_R is the constraint's multiplier. After every step, with the mean over all its images and

        error = (mean m - mask_size) / mask_size, at most 1 either way,

        log lambda  <-  log lambda + rate error
        lambda_R     =  lambda exp(damping error).

    On the log scale, as what lambda_R suits differs a hundredfold with the classifier and its
    classes. Without damping, which is the term in proportion of Stooke, Achiam and Abbeel, 2020,
    masks swing about the size: by the time they follow lambda, it has gone too far.

    It is made inside the strategy's scope.

    Args:
        mask_size: the wished mean of m, above 0 and below 1.
        start: the first lambda_R, above 0.
        rate: of the ascent, a step.
        damping: how much of the last step's error counts at once, at least 0.

    Raises ValueError for other sizes and starts.
    """

    def __init__(self, mask_size, start=10.0, rate=0.02, damping=2.0):
        if not (0 < mask_size < 1 and start > 0):
            raise ValueError(
                f"mask_size is above 0 and below 1, lambda_size above 0; found {mask_size}, {start}"
            )
        self.mask_size = mask_size
        self.rate = rate
        self.damping = damping
        first = tf.clip_by_value(math.log(start), *_LOGARITHMS)
        self._logarithm, self._error = _variable(first, "log_lambda"), _variable(0.0, "error")

    @property
    def variables(self):
        """What a checkpoint keeps."""
        return self._logarithm, self._error

    def __call__(self, step):
        """lambda_R as it is now, float32 []."""
        return tf.exp(tf.clip_by_value(self._logarithm + self.damping * self._error, *_LOGARITHMS))

    def move(self, mean_mask):
        """A step of dual ascent after a step with masks of this mean, float32 []."""
        self._error.assign(tf.clip_by_value(mean_mask / self.mask_size - 1, -1, 1))
        moved = self._logarithm + self.rate * self._error
        self._logarithm.assign(tf.clip_by_value(moved, *_LOGARITHMS))


def _variable(value, name):
    # All replicas set it to the same.
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, trainable=False, aggregation=aggregation, name=name)


def warning_of_masks(mean_mask):
    """One line where trained masks cover nothing or everything, from their mean; else None."""
    if mean_mask < 0.01:
        found, help_ = "the masks have vanished", "a lower --decoder_rate or --lambda_size"
    elif mean_mask > 0.99:
        found, help_ = "the masks cover everything", "--mask_size or a higher --lambda_size"
    else:
        return None
    return f"warning: {found}, their mean is {mean_mask:.2g} on validation pictures: take {help_}"
