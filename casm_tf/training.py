"""The one training loop: `strategy.run(model.train_step)`, checkpoints, resume, TensorBoard."""

import dataclasses
import time

import tensorflow as tf
from tqdm import tqdm


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


def train(
    model,
    directory,
    strategy,
    schedule,
    training_batches,
    validation_batches,
    after_step=lambda step: None,
    pictures=dict,
    xla=False,
):
    """Train a model up to its schedule's last step, from the newest checkpoint if there is one.

    Args:
        model: a compiled and built `keras.Model`; it takes batches (images, labels).
        directory: a pathlib.Path; takes the TensorBoard events and `checkpoints`.
        strategy: the `tf.distribute.Strategy` that the model was made in.
        schedule: a `Schedule`.
        training_batches: skip -> endless `tf.data.Dataset` of global batches, without the first
            `skip` of them.
        validation_batches: a `tf.data.Dataset` that ends.
        after_step: called with the number of steps taken, outside `strategy.run`; with 0 when a
            training starts anew.
        pictures: () -> {name: uint8 [H, W, 3]} for TensorBoard.
        xla: compile the step with XLA.
    """
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    manager = tf.train.CheckpointManager(checkpoint, directory / "checkpoints", max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    else:
        after_step(0)
    first = int(step) + 1
    if first > schedule.steps:
        print(f"{directory}: all {schedule.steps} steps are done")
        return

    train_step = tf.function(model.train_step, jit_compile=True) if xla else model.train_step
    run_train = tf.function(lambda batch: strategy.run(train_step, args=(batch,)))
    run_test = tf.function(lambda batch: strategy.run(model.test_step, args=(batch,)))
    distributed = strategy.experimental_distribute_dataset
    batches = iter(distributed(training_batches(first - 1)))
    validation_batches = distributed(validation_batches)
    writer = tf.summary.create_file_writer(str(directory))
    progress = tqdm(
        total=schedule.steps, initial=first - 1, desc=directory.name, unit="step", mininterval=1
    )
    model.reset_metrics()
    images, waited, since = 0, 0.0, time.perf_counter()
    with writer.as_default(), progress:
        for number in range(first, schedule.steps + 1):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            run_train(batch)
            after_step(number)
            step.assign(number)
            progress.update()
            images += _images(strategy, batch)

            last = number == schedule.steps
            validates = last or number % schedule.validate_every == 0
            if validates or number % schedule.scalars_every == 0:
                averages = model.get_metrics_result()
                _write("training", averages, number)
                _write("learning_rate", _learning_rates(model), number)
                seconds = time.perf_counter() - since
                rate, waiting = images / seconds, waited / seconds
                speed = {"images_per_second": rate, "share_waiting_for_input": waiting}
                _write("speed", speed, number)
                progress.set_postfix(
                    {"images/s": f"{rate:.0f}"} | {k: f"{v:.3f}" for k, v in _shown(averages)}
                )
                model.reset_metrics()
                images, waited, since = 0, 0.0, time.perf_counter()
            if validates:
                for batch in validation_batches:
                    run_test(batch)
                _write("validation", model.get_metrics_result(), number)
                model.reset_metrics()
                for name, picture in pictures().items():
                    tf.summary.image(name, picture[None], step=number)
                images, waited, since = 0, 0.0, time.perf_counter()
            if last or number % schedule.checkpoint_every == 0:
                manager.save(checkpoint_number=number)
                images, waited, since = 0, 0.0, time.perf_counter()


def _images(strategy, batch):
    """How many images a global batch has."""
    return sum(len(images) for images in strategy.experimental_local_results(batch[0]))


def _shown(averages):
    """The few that fit beside a progress bar."""
    return [(name, value) for name, value in averages.items() if name in ("accuracy", "mask_mean")]


def _learning_rates(model):
    names = ("optimizer", "classifier_optimizer", "decoder_optimizer")
    optimizers = {name: getattr(model, name, None) for name in names}
    return {
        name.removesuffix("_optimizer"): optimizer.learning_rate
        for name, optimizer in optimizers.items()
        if optimizer
    }


def _write(group, values, step):
    for name, value in values.items():
        tf.summary.scalar(f"{group}/{name}", value, step=step)
