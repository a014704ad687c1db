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
    lambda_R is the constraint's multiplier. After every step

        log lambda_R  <-  log lambda_R + rate (mean m - mask_size) / mask_size,

    the mean over all images of the step, the fraction at most 1 either way. On the log scale, as
    what lambda_R suits differs a hundredfold with the classifier and its classes. It is slow beside
    the decoder, which else is never where it would come to rest.

    It is made inside the strategy's scope.

    Args:
        mask_size: the wished mean of m, above 0 and below 1.
        start: the first lambda_R, above 0.
        rate: of the ascent, a step.

    Raises ValueError for other sizes and starts.
    """

    def __init__(self, mask_size, start=10.0, rate=0.02):
        if not (0 < mask_size < 1 and start > 0):
            raise ValueError(
                f"mask_size is above 0 and below 1, lambda_size above 0; found {mask_size}, {start}"
            )
        self.mask_size = mask_size
        self.rate = rate
        # All replicas set it to the same.
        self.logarithm = tf.Variable(
            tf.clip_by_value(math.log(start), *_LOGARITHMS),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="log_lambda_size",
        )

    @property
    def variables(self):
        """What a checkpoint keeps."""
        return (self.logarithm,)

    def __call__(self, step):
        """lambda_R as it is now, float32 []."""
        return tf.exp(self.logarithm)

    def move(self, mean_mask):
        """A step of dual ascent after a step with masks of this mean, float32 []."""
        error = tf.clip_by_value(mean_mask / self.mask_size - 1, -1, 1)
        moved = self.logarithm + self.rate * error
        self.logarithm.assign(tf.clip_by_value(moved, *_LOGARITHMS))


def warning_of_masks(mean_mask):
    """One line where trained masks cover nothing or everything, from their mean; else None."""
    if mean_mask < 0.01:
        found, help_ = "the masks have vanished", "a lower --decoder_rate or --lambda_size"
    elif mean_mask > 0.99:
        found, help_ = "the masks cover everything", "--mask_size or a higher --lambda_size"
    else:
        return None
    return f"warning: {found}, their mean is {mean_mask:.2g} on validation pictures: take {help_}"
