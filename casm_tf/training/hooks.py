"""What is done after a training step: scalars, validation, checkpoints, a stop when asked."""

import contextlib
import dataclasses
import math
import time

import tensorflow as tf
from tqdm import tqdm

from casm_tf.host import files
from casm_tf.training.events import ROOM

_ESTIMATED_AFTER = 20  # After so many steps it is said how long the training will take.


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to train, and how often what is written, in steps.

    Attributes:
        steps: the number of the last step, from 1.
        scalars_every: averages over the training batches, to TensorBoard and the progress bar.
        validate_every: averages over the validation split, and pictures, to TensorBoard.
        checkpoint_every: a checkpoint; the last step has one always.
    """

    steps: int
    scalars_every: int = 20
    validate_every: int = 400
    checkpoint_every: int = 400


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that was taken.

    Attributes:
        number: from 1.
        last: whether it was the last one.
        finite: a float32 tensor, 1.0 where every loss and gradient on all replicas was finite.
        since: when it began, by time.perf_counter().
        waited: seconds for its batch.
    """

    number: int
    last: bool
    finite: tf.Tensor
    since: float
    waited: float


class StoppedError(Exception):
    """The training was asked to stop, and did, after its checkpoint was written."""


class NotFiniteError(Exception):
    """A loss, a gradient or a validation's average was NaN or infinite.

    The message names the step, the last good checkpoint and the list of the step's pictures.
    """


class Hook:
    """Is called after every step, and before the first and after the last of a process."""

    def begin(self, done):
        """Before the first step; `done` is how many were taken before this process."""

    def after(self, step):
        """After a `Step`, outside of `strategy.run`."""

    def end(self):
        """When the loop is left, by an error too."""


@contextlib.contextmanager
def running(hooks, done):
    """Begin the hooks, after `done` steps, and end them however the block is left."""
    try:
        for hook in hooks:
            hook.begin(done)
        yield
    finally:
        for hook in hooks:
            hook.end()


class Remember(Hook):
    """F^(k)  <-  thinned F^(k-1) with f."""

    def __init__(self, model):
        self.model = model

    def begin(self, done):
        if done == 0:
            self.model.remember(0)

    def after(self, step):
        self.model.remember(step.number)


class Finite(Hook):
    """Stops at a step that was not finite; looks only when it is asked to `check`.

    To read a step's flag is to wait for the step. `names` is of `loop.Batches`.
    """

    def __init__(self, checkpoints, names, writes):
        self.checkpoints, self.names, self.writes = checkpoints, names, writes
        self.flags = {}

    def after(self, step):
        self.flags[step.number] = step.finite

    def check(self):
        """Raise `NotFiniteError` for the first step since the last look that was not finite."""
        for number, finite in self.flags.items():
            if finite < 1:
                self.fail(number, f"in step {number} a loss or a gradient is NaN or infinite")
        self.flags.clear()

    def fail(self, number, found):
        self.checkpoints.wait()
        names = list(self.names(number))
        path = self.checkpoints.directory.parent / "not_finite.txt"
        if self.writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as unfinished:
                unfinished.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        raise NotFiniteError(
            f"{found}; the last good checkpoint is {self.checkpoints.newest() or 'none'}; {path} "
            f"lists this step's pictures, the first is {next(iter(names), 'not known')}"
        )


class Scalars(Hook):
    """Averages over the training batches, rates and speed, to TensorBoard and a progress bar."""

    def __init__(self, model, events, finite, schedule, batch_size, shows):
        self.model, self.events, self.finite = model, events, finite
        self.schedule, self.batch_size = schedule, batch_size
        self.bar = {"total": schedule.steps, "desc": events.directory.name, "disable": not shows}

    def begin(self, done):
        self.events.directory.mkdir(parents=True, exist_ok=True)
        files.check_room(self.events.directory, ROOM)
        self.progress = tqdm(initial=done, unit="step", mininterval=1, **self.bar)
        self.first, self.begun = done + 1, None
        self.model.reset_metrics()
        self.steps, self.waited = 0, 0.0

    def after(self, step):
        self.progress.update()
        if self.steps == 0:
            self.since = step.since  # What was done between two steps does not count.
        self.steps += 1
        self.waited += step.waited
        self._estimate(step.number)
        # Before a validation too, as it takes the same averages.
        dues = (self.schedule.scalars_every, self.schedule.validate_every)
        if not step.last and all(step.number % every for every in dues):
            return
        self.finite.check()
        averages = self.model.get_metrics_result()
        seconds = time.perf_counter() - self.since
        speed = self.steps * self.batch_size / seconds
        scalars = {f"training/{name}": value for name, value in averages.items()}
        scalars |= {f"learning_rate/{name}": rate for name, rate in _rates(self.model).items()}
        scalars |= {"speed/images_per_second": speed}
        scalars |= {"speed/share_waiting_for_input": self.waited / seconds}
        self.events.write(step.number, scalars)
        shown = {x: f"{averages[x]:.3f}" for x in ("accuracy", "mask_mean") if x in averages}
        self.progress.set_postfix({"images/s": f"{speed:.0f}"} | shown)
        self.model.reset_metrics()
        self.steps, self.waited = 0, 0.0

    def end(self):
        if hasattr(self, "progress"):
            self.progress.close()
        self.events.close()

    def _estimate(self, number):
        if number == self.first:
            self.begun = time.perf_counter()  # The first step takes the time that tracing takes.
        elif number == self.first + _ESTIMATED_AFTER:
            seconds = (time.perf_counter() - self.begun) / _ESTIMATED_AFTER
            left = self.bar["total"] - number
            self.progress.write(
                f"{self.bar['desc']}: {left} steps at {seconds:.2f} s are about "
                f"{_duration(seconds * left)}, and validation on top"
            )


class Validation(Hook):
    """Averages over the validation split, and pictures, to TensorBoard."""

    def __init__(self, model, events, finite, schedule, batches, pictures, asked):
        self.model, self.events, self.finite = model, events, finite
        self.every = schedule.validate_every
        self.batches, self.pictures, self.asked = batches, pictures, asked
        run = model.distribute_strategy.run
        self.run_test = tf.function(lambda batch: run(model.test_step, (batch,)))

    def after(self, step):
        if not step.last and step.number % self.every:
            return
        for batch in self.batches:
            if self.asked():
                break
            self.run_test(batch)
        else:
            averages = self.model.get_metrics_result()
            # A step may be finite and so large that the next would not be.
            if not all(math.isfinite(value) for value in averages.values()):
                found = f"after step {step.number} a loss or a mask is NaN or infinite"
                self.finite.fail(step.number, found)
            scalars = {f"validation/{name}": value for name, value in averages.items()}
            self.events.write(step.number, scalars, self.pictures)
        self.model.reset_metrics()


class Checkpointing(Hook):
    """A checkpoint every so many steps, after the last one, and when the training is to stop."""

    def __init__(self, checkpoints, finite, schedule, asked):
        self.checkpoints, self.finite, self.asked = checkpoints, finite, asked
        self.every = schedule.checkpoint_every

    def after(self, step):
        stops = self.asked() or step.last
        if stops or step.number % self.every == 0:
            self.finite.check()
            self.checkpoints.save(step.number)
        if stops:
            self.checkpoints.wait()
            if not step.last:
                directory = self.checkpoints.directory.parent
                raise StoppedError(f"{directory}: stopped after step {step.number}, as asked")
        self.checkpoints.check()


def _duration(seconds):
    """Seconds in words: "3 h 20 min", "5 min" or "40 s"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _rates(model):
    names = ("classifier", "decoder")
    optimizers = {name: getattr(model, f"{name}_optimizer", None) for name in names}
    return {name: found.learning_rate for name, found in optimizers.items() if found}
