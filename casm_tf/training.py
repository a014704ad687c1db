"""The one training loop: steps on every replica, checkpoints, resume, TensorBoard, faults."""

import contextlib
import dataclasses
import math
import time

import tensorflow as tf
from tqdm import tqdm

from casm_tf import files, strategies
from casm_tf.checkpoints import Checkpoints

_LOST = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.InternalError, tf.errors.DeadlineExceededError),
)
_ESTIMATED_AFTER = 20  # steps, it is said how long the training will take
_ROOM = 2**20  # bytes that scalars and pictures may take until the disk is looked at again


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to train, and how often what is written, in steps.

    Attributes:
        steps: the number of the last step, from 1.
        scalars_every: averages over the training batches, to TensorBoard and the progress bar.
        validate_every: averages over the validation split, and pictures, to TensorBoard.
        checkpoint_every: a checkpoint; the last step has one always.
        refused_in_a_row: so many steps that are not finite, one after the other, end the training.
    """

    steps: int
    scalars_every: int = 20
    validate_every: int = 400
    checkpoint_every: int = 400
    refused_in_a_row: int = 10


class StoppedError(Exception):
    """The training was asked to stop, and did, after its checkpoint was written."""


class WorkerLostError(Exception):
    """Another worker of this training does not answer."""


class NotFiniteError(Exception):
    """Too many steps in a row had a loss or a gradient that is NaN or infinite, or one led to it.

    Attributes:
        steps: their numbers.
        checkpoint: the path of the newest checkpoint, or None.
    """

    def __init__(self, found, steps, checkpoint):
        super().__init__(f"{found}; the last good checkpoint is {checkpoint or 'none'}")
        self.steps = steps
        self.checkpoint = checkpoint


def train(
    model,
    directory,
    strategy,
    schedule,
    batch_size,
    training_batches,
    validation_batches,
    after_step=lambda step: None,
    pictures=dict,
    xla=False,
    stop_asked=lambda: False,
):
    """Train a model up to its schedule's last step, from the newest checkpoint if there is one.

    A step that is not finite changes nothing and is counted; its number and batch are used up. A
    checkpoint that is due then waits for a step that is taken.

    Args:
        model: a compiled `steps.Model`; it takes batches (images, labels).
        directory: a pathlib.Path that all workers see; takes the TensorBoard events and
            `checkpoints`.
        strategy: the `tf.distribute.Strategy` that the model was made in.
        schedule: a `Schedule`.
        batch_size: images a step over all replicas, a multiple of their number.
        training_batches: (skip, part) -> endless `tf.data.Dataset` of one worker's part of each
            batch, without the first `skip`; part is (the worker's number, how many there are).
        validation_batches: part -> a `tf.data.Dataset` that ends, of one worker's part.
        after_step: called with the number of steps taken, outside `strategy.run`; with 0 when a
            training starts anew.
        pictures: () -> {name: uint8 [H, W, 3]} for TensorBoard.
        xla: compile the gradients with XLA.
        stop_asked: () -> whether to break off a validation, write a checkpoint and raise
            `StoppedError`.

    Raises:
        StoppedError, NotFiniteError, WorkerLostError: see there.
        OSError: the disk is full, no checkpoint can be read, or it is of another model.
        tf.errors.OpError: a batch cannot be read.
    """
    chief = strategies.is_chief(strategy)
    # How many steps were left out; in the checkpoints, so that it is of the whole training.
    refused = tf.Variable(0, dtype=tf.int64, trainable=False)
    state = {**model.state, "refused": [refused]}
    checkpoints = Checkpoints(state, directory / "checkpoints", writes=chief)
    first = checkpoints.restore() + 1
    if first == 1:
        after_step(0)
    if first > schedule.steps:
        if chief:
            print(f"{directory}: all {schedule.steps} steps are done")
        return

    run_train, run_test = on_all_replicas(model, strategy, xla)
    batches = iter(
        _distributed(strategy, batch_size, lambda part: training_batches(first - 1, part))
    )
    validation_batches = _distributed(strategy, batch_size, validation_batches)
    writer = tf.summary.create_noop_writer()
    directory.mkdir(parents=True, exist_ok=True)
    files.check_room(directory, _ROOM)
    if chief:
        writer = tf.summary.create_file_writer(str(directory))
    progress = tqdm(
        total=schedule.steps,
        initial=first - 1,
        desc=directory.name,
        unit="step",
        mininterval=1,
        disable=not chief,
    )
    model.reset_metrics()
    watch, in_a_row, is_due = _Watch(), [], False
    estimated_at = first + _ESTIMATED_AFTER

    def asked():
        return tf.constant(stop_asked())

    with writer.as_default(), progress, _blaming_lost_workers(strategy):
        for number in range(first, schedule.steps + 1):
            with watch.waiting():
                batch = next(batches)
            is_refused, is_asked = run_train(batch, asked())
            after_step(number)
            progress.update()
            watch.images += batch_size
            if number == first:
                begun = time.perf_counter()  # The first step takes the time that tracing takes.
            elif number == estimated_at:
                seconds = (time.perf_counter() - begun) / _ESTIMATED_AFTER
                left = schedule.steps - number
                progress.write(
                    f"{directory.name}: {left} steps at {seconds:.2f} s are about "
                    f"{_duration(seconds * left)}, and validation on top"
                )
            if is_refused:
                in_a_row.append(number)
                refused.assign_add(1)
                progress.write(f"step {number} is left out: a loss or a gradient is not finite")
                if len(in_a_row) == schedule.refused_in_a_row:
                    checkpoints.wait()
                    found = f"in {len(in_a_row)} steps in a row, to step {number}, a loss or a "
                    found += "gradient was NaN or infinite"
                    raise NotFiniteError(found, in_a_row, checkpoints.newest())
            else:
                in_a_row.clear()

            last = number == schedule.steps
            validates = last or number % schedule.validate_every == 0
            if validates or number % schedule.scalars_every == 0:
                files.check_room(directory, _ROOM)
                averages = model.get_metrics_result()
                _write("training", {**averages, "refused_steps": refused}, number)
                _write("learning_rate", _learning_rates(model), number)
                speed = watch.speed()
                _write("speed", speed, number)
                shown = {k: f"{v:.3f}" for k, v in _shown(averages)}
                progress.set_postfix({"images/s": f"{speed['images_per_second']:.0f}"} | shown)
                model.reset_metrics()
                watch.start()
            if validates:
                for batch in validation_batches:
                    is_asked = is_asked or run_test(batch, asked())
                    if is_asked:
                        break
                else:
                    averages = model.get_metrics_result()
                    is_finite = all(math.isfinite(value) for value in averages.values())
                    if not is_finite and (last or not in_a_row):
                        # A step may be finite and so large that the next would not be.
                        checkpoints.wait()
                        found = f"after step {number} a loss or a mask is NaN or infinite"
                        raise NotFiniteError(found, [number], checkpoints.newest())
                    _write("validation", averages, number)
                    if chief:
                        for name, picture in pictures().items():
                            tf.summary.image(name, picture[None], step=number)
                model.reset_metrics()
            # Not while steps are refused: none of them may push out the last good one.
            is_due = is_due or number % schedule.checkpoint_every == 0
            if last or is_asked or (is_due and not in_a_row):
                checkpoints.save(number)
                is_due = False
            if last or is_asked:
                checkpoints.wait()
            if is_asked and not last:
                raise StoppedError(f"{directory}: stopped after step {number}, as asked")
            checkpoints.check()
            if validates:
                watch.start()


class _Watch:
    """Images a second, and which share of the time was spent waiting for them."""

    def __init__(self):
        self.start()

    def start(self):
        # Not the time of day, which an administrator may set.
        self.images, self.waited, self.since = 0, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def waiting(self):
        asked = time.perf_counter()
        yield
        self.waited += time.perf_counter() - asked

    def speed(self):
        seconds = time.perf_counter() - self.since
        return {
            "images_per_second": self.images / seconds,
            "share_waiting_for_input": self.waited / seconds,
        }


def on_all_replicas(model, strategy, xla=False):
    """Two functions of a batch: a training step's, and a look at a validation batch.

    The first is (batch, asked) -> (whether the step was refused, whether any worker was asked to
    stop), bool tensors; `asked`, another, is whether this one was. The second returns the latter.
    """

    def run(function, *args):
        return strategy.run(function, args=args)

    def run_compiled(function, *args):
        return strategy.run(tf.function(function, jit_compile=True), args=args)

    def is_any(asked):
        return strategy.reduce("sum", run(tf.cast, asked, tf.float32), axis=None) > 0

    @tf.function
    def run_train(batch, asked):
        found = model.find_step(batch, run_compiled if xla else run)
        refused = strategy.reduce("sum", found.pop("refused"), axis=None)

        def take_on_replica(found):
            # What comes out of a tf.cond is on no device yet, which all-reduce would ask for.
            model.take_step(tf.nest.map_structure(tf.identity, found))

        def take():
            run(take_on_replica, found)
            return refused

        return tf.cond(refused > 0, lambda: refused, take) > 0, is_any(asked)

    @tf.function
    def run_test(batch, asked):
        run(model.test_step, batch)
        return is_any(asked)

    return run_train, run_test


def _distributed(strategy, batch_size, batches_of):
    """The batches that `batches_of` makes for a worker's part, shared out to its replicas."""

    options = tf.data.Options()
    # At its end TensorFlow 2.21 may wait for a pipeline's tuning: up to a minute, longer than a
    # scheduler's grace, or for as long as the clock was set back.
    options.autotune.enabled = False

    def of_worker(context):
        part = (context.input_pipeline_id, context.num_input_pipelines)
        batches = batches_of(part).with_options(options)
        replicas = strategy.num_replicas_in_sync
        return batches if replicas == part[1] else batches.rebatch(batch_size // replicas)

    return strategy.distribute_datasets_from_function(of_worker)


@contextlib.contextmanager
def _blaming_lost_workers(strategy):
    """Turn what TensorFlow raises where a worker of several is gone into `WorkerLostError`."""
    try:
        yield
    except _LOST as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        lines = error.message.splitlines()
        told = [line for line in lines if line.startswith("/job:") or "aborted by" in line]
        raise WorkerLostError((told or lines)[0]) from error


def _duration(seconds):
    """Seconds in words: "3 h 20 min", "5 min" or "40 s"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _shown(averages):
    """The few that fit beside a progress bar."""
    return [(name, value) for name, value in averages.items() if name in ("accuracy", "mask_mean")]


def _learning_rates(model):
    names = ("classifier", "decoder")
    optimizers = {name: getattr(model, f"{name}_optimizer", None) for name in names}
    return {name: found.learning_rate for name, found in optimizers.items() if found}


def _write(group, values, step):
    for name, value in values.items():
        tf.summary.scalar(f"{group}/{name}", value, step=step)
