"""How a learning rate falls, and how lambda_R changes."""

from keras.optimizers import schedules


def decayed(rate, decay, steps, every=None):
    """What a Keras optimizer takes as its rate, over so many steps.

    `decay` is "cosine", half a wave, to 0 at the last step; or "steps", / 10 after each `every`
    steps, by default a third of them.
    """
    if decay == "cosine":
        return schedules.CosineDecay(rate, steps)
    every = every or max(1, steps // 3)
    # After thirty a rate is of no effect.
    boundaries = list(range(every, steps, every)[:30])
    if not boundaries:  # Keras takes at least one.
        return rate
    values = [rate / 10**n for n in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, values)


def switched(first, steps, then):
    """A number that is `first` for so many steps, and then another: a schedule, or that one."""
    return schedules.PiecewiseConstantDecay([steps - 1], [first, then]) if steps else then
