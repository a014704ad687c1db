"""The one training loop: steps on every replica, and what is done after each of them."""

import collections.abc
import dataclasses
import time

import tensorflow as tf

from casm_tf.training import devices, hooks
from casm_tf.training.checkpoints import Checkpoints
from casm_tf.training.events import Events


@dataclasses.dataclass(frozen=True)
class Batches:
    """What a model is trained on and validated on.

    A part is (a worker's number, how many there are).

    Attributes:
        size: images a step over all replicas, a multiple of their number.
        training: (skip, part) -> endless `tf.data.Dataset` of one worker's part of each batch,
            without the first `skip`.
        validation: part -> a `tf.data.Dataset` that ends, of one worker's part.
        names: step -> the names of its pictures, where they are known.
    """

    size: int
    training: collections.abc.Callable
    validation: collections.abc.Callable
    names: collections.abc.Callable = lambda step: []


def train(model, directory, schedule, batches, pictures=dict, asked=bool):
    """Train a model up to its schedule's last step, from the newest checkpoint if there is one.

    Args:
        model: a compiled `CASM` or `Pretraining`.
        directory: a pathlib.Path that all workers see; takes the TensorBoard events and
            `checkpoints`.
        schedule: a `hooks.Schedule`.
        batches: a `Batches`.
        pictures: () -> {name: uint8 [H, W, 3]} for TensorBoard.
        asked: () -> whether to break off a validation, write a checkpoint and stop; the same on all
            workers.

    Raises:
        StoppedError, NotFiniteError: see hooks.py. WorkerLostError: see devices.py.
        OSError: the disk is full, no checkpoint can be read, or it is of another model.
        tf.errors.OpError: a batch cannot be read.
    """
    strategy = model.distribute_strategy
    writes = devices.is_chief(strategy)
    checkpoints = Checkpoints(model.state, directory / "checkpoints", writes=writes)
    done = checkpoints.restore()
    if done >= schedule.steps:
        if writes:
            print(f"{directory}: all {schedule.steps} steps are done")
        return

    training = iter(_distributed(strategy, batches.size, lambda part: batches.training(done, part)))
    validation = _distributed(strategy, batches.size, batches.validation)
    events = Events(directory, writes)
    finite = hooks.Finite(checkpoints, batches.names, writes)
    after_each_step = [
        hooks.Remember(model),
        finite,
        hooks.Scalars(model, events, finite, schedule, batches.size, writes),
        hooks.Validation(model, events, finite, schedule, validation, pictures, asked),
        hooks.Checkpointing(checkpoints, finite, schedule, asked),
    ]
    run_step = tf.function(model.run_step)
    with devices.blaming_lost_workers(strategy), hooks.running(after_each_step, done):
        for number in range(done + 1, schedule.steps + 1):
            since = time.perf_counter()  # not the time of day, which may be set
            batch = next(training)
            waited = time.perf_counter() - since
            taken = run_step(batch)
            step = hooks.Step(number, number == schedule.steps, taken["finite"], since, waited)
            for hook in after_each_step:
                hook.after(step)


def _distributed(strategy, batch_size, batches_of):
    """The batches that `batches_of` makes for a worker's part, shared out to its replicas.

    A part is (the worker's number, how many there are); `batch_size` is over all replicas.
    """
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
