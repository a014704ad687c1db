"""Train a mask model: python -m casm_tf.train --flagfile=configs/casm.flags

A run is a directory: the flags, the versions, the checkpoints, the TensorBoard events and at the
end model.keras, the mask model with its classifier. The same command goes on where it was.
"""

import contextlib
import pathlib
import re
import signal
import sys
import time

import casm_tf.quiet  # noqa: F401

# isort: split

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from PIL import Image

from casm_tf import (
    figures,
    files,
    limits,
    networks,
    objectives,
    pretrained,
    program,
    run_directory,
    strategies,
    train_flags,
    training,
)
from casm_tf.casm import CASM
from casm_tf.data import damage, input_pipeline
from casm_tf.pretraining import Pretraining
from casm_tf.thinning import Snapshots, Thinning

FLAGS = flags.FLAGS
# What may change between two calls for one run.
_CHANGEABLE = {"run_dir", "data_dir", "strategy", "checkpoint_every", "validate_every"}
_CHANGEABLE |= {"refused_in_a_row"}

flags.adopt_module_key_flags(train_flags)
for _name in ("max_pixels", "max_xml_bytes"):
    flags.declare_key_flag(_name)

_HEAD_STEPS = 300  # at most, of a new head on a trained network
# Below these the alternation has little to go by, measured on at most so many pictures.
_LEAST_ACCURACY, _LEAST_CONFIDENCE = 0.5, 0.1
_LOOKED_AT_ONCE, _LOOKS = 32, 16

_stop_asked = []  # when, by time.monotonic()


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    with program.blaming("run_dir"):
        run_directory.check_same(run_dir, _flags_in_force(), _CHANGEABLE)
    with program.blaming("thinning"):
        thinning = _thinning()
    if FLAGS.classifier_form == "masked" and FLAGS.masked_steps == "present":
        raise program.UserError("--classifier_form: 'masked' needs --masked_steps=always")
    is_trained = FLAGS.classifier_weights or FLAGS.start == "pretrained"
    if FLAGS.targets == "predictions" and FLAGS.dataset == "image_folder" and not is_trained:
        raise program.UserError(
            "--targets: predictions are those of a trained classifier, and there are no labels to "
            "train one on; give --classifier_weights or --start=pretrained"
        )
    with program.blaming("strategy"):
        strategy = strategies.make(FLAGS.strategy)  # before anything that TensorFlow does
    replicas = strategy.num_replicas_in_sync
    if FLAGS.batch_size % replicas:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} images for {replicas} replicas")
    if FLAGS.xla and FLAGS.precision != "float32" and not tf.config.list_physical_devices("GPU"):
        raise program.UserError(f"--xla: on CPUs it takes float32 only; found {FLAGS.precision}")
    blamed = "dataset"
    if FLAGS.image_dir is not None:
        tree = [name for name in ("image_dir", "boxes", "masks") if FLAGS[name].value is not None]
        blamed = " or --".join(tree)
    with (
        program.blaming("data_dir", OSError),
        program.blaming(blamed, ValueError),
        program.blaming("max_pixels", Image.DecompressionBombError),
    ):
        dataset = input_pipeline.of_all_classes(_flags_in_force())
    if FLAGS.classes:
        with program.blaming("classes"):
            dataset = input_pipeline.of_classes(dataset, FLAGS.classes)
    size = dataset.builder.info.splits["train"].num_examples
    if FLAGS.batch_size > size:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} of {size} training images")

    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(FLAGS.seed)
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    with strategy.scope(), program.blaming("image_size"):
        classifier = networks.classifier(FLAGS.classifier, dataset.image_size, len(dataset.labels))
        decoder = networks.decoder(
            networks.map_shapes(classifier),
            dataset.image_size,
            FLAGS.decoder_channels,
            FLAGS.upsampling,
        )
    if FLAGS.synchronized_batch_normalization:
        networks.synchronize_batch_normalization(classifier)
        networks.synchronize_batch_normalization(decoder)
    pretrains = _load(classifier, decoder, dataset.labels)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ask_to_stop)
    try:
        with (
            program.blaming("run_dir", OSError),
            program.blaming("data_dir", damage.DamagedFileError),
            damage.naming_files(dataset),
            _blaming_memory(),
        ):
            training_of = (classifier, decoder, pretrains, thinning, dataset, strategy, run_dir)
            if strategies.is_chief(strategy):
                _run_as_chief(run_dir, dataset, training_of)
            else:
                _run(*training_of)
        strategies.wait_for_all(strategy)
    except training.StoppedError as error:
        print(f"{error}; the same command goes on from there")
        strategies.wait_for_all(strategy)
    except training.WorkerLostError as error:
        raise program.UserError(
            f"--strategy: another worker does not answer ({error}); start all workers again, and "
            "the training goes on from its last checkpoint"
        ) from error


@contextlib.contextmanager
def _blaming_memory():
    """Turn what TensorFlow raises where there is too little memory into a `UserError`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        shape = re.search(r"shape\[[\d,]*\]", error.message)
        raise program.UserError(
            f"--batch_size: too little memory{f' for a tensor of {shape[0]}' if shape else ''}; "
            "lower it, or --image_size, --decoder_channels or --snapshots"
        ) from error


def _load(classifier, decoder, labels):
    """Give the networks the weights that are asked for; what of the classifier is to be pretrained.

    That is "all", "head" or "nothing".
    """
    if FLAGS.start == "pretrained":
        with program.blaming("start"):
            if FLAGS.classifier_weights:
                raise ValueError("pretrained has its own classifier; found --classifier_weights")
            kept = labels == pretrained.imagenet_labels()
            pretrained.fill(classifier, decoder, with_head=kept)
    elif FLAGS.classifier_weights:
        with program.blaming("classifier_weights"):
            kept = networks.load_weights(classifier, FLAGS.classifier_weights, FLAGS.classifier)
    else:
        return "all"
    if not kept and FLAGS.targets == "predictions":
        raise program.UserError(
            f"--targets: predictions are those of a trained classifier; its weights are not for "
            f"{len(labels)} classes"
        )
    return "nothing" if kept else "head"


def _run_as_chief(run_dir, dataset, training_of):
    """`_run` in a directory of its own, which is described and gets the trained model."""
    with run_directory.claimed(run_dir):
        run_directory.describe(run_dir, _flags_in_force(), dataset.labels)
        print(f"{run_dir}: events for TensorBoard, checkpoints and at the end model.keras")
        model = _run(*training_of)
        with files.replacing(run_dir / "model.keras") as path:
            model.inference_model().save(path)
    print(f"made  {run_dir / 'model.keras'}: the mask model and its classifier")
    print(f"next  python -m components.evaluator --run_dir={run_dir}")
    print(f"      tensorboard --logdir={run_dir}")


def _run(classifier, decoder, pretrains, thinning, dataset, strategy, run_dir):
    """Both trainings, each from where it was; the trained `CASM`."""
    first = run_dir / run_directory.FIRST_CLASSIFIER
    if first.exists():
        with program.blaming("run_dir"):
            networks.load_weights(classifier, first)
    else:
        if pretrains != "nothing":
            _pretrain(classifier, dataset, strategy, run_dir, head_only=pretrains == "head")
        if strategies.is_chief(strategy):
            size = 4 * classifier.count_params() + 4096 * len(classifier.variables)
            with files.replacing(first) as path:
                files.check_room(run_dir, size)
                classifier.save_weights(path)
                files.sync(path)
            _warn_of_a_poor_classifier(classifier, dataset)
    return _train_masks(classifier, decoder, thinning, dataset, strategy, run_dir)


def _pretrain(classifier, dataset, strategy, run_dir, head_only):
    steps = min(FLAGS.pretraining_steps, _HEAD_STEPS) if head_only else FLAGS.pretraining_steps
    with strategy.scope():
        rate = keras.optimizers.schedules.PolynomialDecay(FLAGS.pretraining_rate, steps, 0.0)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=0.05)
        model = Pretraining(classifier, optimizer, head_only)
    _train(model, dataset, strategy, run_dir / "pretraining", steps, FLAGS.seed)


def _warn_of_a_poor_classifier(classifier, dataset):
    """One line where the classifier knows so little that the alternation would mean nothing."""
    batches = input_pipeline.evaluation_batches(dataset, "validation", _LOOKED_AT_ONCE)
    sure, right = [], []
    for batch in batches.take(_LOOKS):
        probabilities = tf.nn.softmax(classifier(batch["images"], training=False)["logits"]).numpy()
        sure += probabilities.max(axis=1).tolist()
        right += (probabilities.argmax(axis=1) == batch["labels"].numpy()).tolist()
    if FLAGS.targets == "predictions":
        share, found = np.mean(sure), "is sure of its predictions to {:.0%} only"
        least, help_ = _LEAST_CONFIDENCE, "take one that knows such pictures"
    else:
        share, found = np.mean(right), "is right on {:.0%} of the validation pictures only"
        least, help_ = _LEAST_ACCURACY, "train it longer (--pretraining_steps)"
    if share < least:
        print(
            f"warning: the classifier {found.format(share)}, and masks are as good as it is: "
            f"{help_}, or begin with --flagfile=configs/finetune.flags",
            file=sys.stderr,
        )


def _train_masks(classifier, decoder, thinning, dataset, strategy, run_dir):
    lambda_size = FLAGS.lambda_size
    if lambda_size is None:
        lambda_size = objectives.original_lambda(FLAGS.score, FLAGS.thinning, len(dataset.labels))
    steps = _steps(dataset)
    device = "CPU:0" if FLAGS.snapshots_on == "host" else None
    snapshots = Snapshots(classifier, thinning, FLAGS.seed, device, FLAGS.snapshot_precision)
    with strategy.scope():
        encoder = None if FLAGS.shared_encoder else networks.encoder_copy(classifier)
        teacher = networks.copy(classifier) if FLAGS.targets == "predictions" else None
        model = CASM(
            classifier,
            decoder,
            snapshots,
            encoder,
            teacher,
            score=FLAGS.score,
            size=FLAGS.size,
            lambda_size=lambda_size,
            first_lambda=(FLAGS.first_lambda_size, FLAGS.first_lambda_steps),
            lambda_variation=FLAGS.lambda_variation,
            classifier_form=FLAGS.classifier_form,
            masked_steps=FLAGS.masked_steps,
            weight_decay=FLAGS.weight_decay,
            clip_norm=FLAGS.clip_norm,
        )
        model.compile(
            keras.optimizers.SGD(_decayed(FLAGS.classifier_rate, steps), momentum=0.9),
            keras.optimizers.Adam(_decayed(FLAGS.decoder_rate, steps)),
        )
    shown = next(iter(input_pipeline.evaluation_batches(dataset, "validation", 16)))["images"]

    def pictures():
        masks = model(shown, training=False).numpy()[..., 0]
        return {"masks": figures.mask_grid(dataset.denormalise(shown), masks)}

    _train(
        model,
        dataset,
        strategy,
        run_dir / "masks",
        steps,
        FLAGS.seed + 1,  # other batches than the pretraining's
        after_step=model.remember,
        pictures=pictures,
    )
    return model


def _train(model, dataset, strategy, directory, steps, seed, **callbacks):
    data = (dataset, FLAGS.batch_size, seed)

    def training_batches(skip, part):
        crops = (FLAGS.smallest_crop, FLAGS.flip)
        return input_pipeline.training_batches(*data, skip, *crops, part)

    def validation_batches(part):
        batches = input_pipeline.evaluation_batches(
            dataset, "validation", FLAGS.batch_size // part[1], part=part
        )
        return batches.map(lambda batch: (batch["images"], batch["labels"]))

    schedule = training.Schedule(
        steps,
        validate_every=FLAGS.validate_every,
        checkpoint_every=FLAGS.checkpoint_every,
        refused_in_a_row=FLAGS.refused_in_a_row,
    )
    try:
        training.train(
            model,
            directory,
            strategy,
            schedule,
            FLAGS.batch_size,
            training_batches,
            validation_batches,
            xla=FLAGS.xla,
            stop_asked=lambda: bool(_stop_asked),
            **callbacks,
        )
    except training.NotFiniteError as error:
        path = directory / "refused.txt"
        names = input_pipeline.names_of_batches(*data, range(error.steps[0], error.steps[-1] + 1))
        lines = [
            f"{step}\t{name}\n"
            for step, some in zip(error.steps, names, strict=True)
            for name in some
        ]
        if strategies.is_chief(strategy):
            with files.replacing(path) as unfinished:
                unfinished.write_text("".join(lines), encoding="utf-8")
        raise program.UserError(
            f"--run_dir: {error}; {path} lists these steps' pictures, the last one's first is "
            f"{next(iter(names[-1]), 'not known')}. Take a lower rate, or look at those pictures"
        ) from error


def _steps(dataset):
    """The steps of the alternation, from --steps or --epochs."""
    if FLAGS.steps is not None:
        return FLAGS.steps
    images = dataset.builder.info.splits["train"].num_examples
    return max(1, round(FLAGS.epochs * images / FLAGS.batch_size))


def _decayed(rate, steps):
    """The rate as --decay asks, over so many steps."""
    if FLAGS.decay == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    every = FLAGS.decay_every or max(1, steps // 3)
    # After thirty a rate is of no effect.
    boundaries = list(range(every, steps, every)[:30])
    if not boundaries:  # Keras takes at least one.
        return rate
    rates = [rate / 10**n for n in range(len(boundaries) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)


def _thinning():
    if FLAGS.thinning in ("F", "L"):
        return Thinning.named(FLAGS.thinning)
    changes = {"probability": FLAGS.past_probability, "overwrite": FLAGS.overwrite}
    return Thinning.named(FLAGS.thinning, **changes, capacity=FLAGS.snapshots)


def _ask_to_stop(number, frame):
    """Stop after the step that is under way; the next signal ends the program at once.

    Not within a second: a signal to a group of processes comes from components.trainer too.
    """
    _stop_asked.append(time.monotonic())
    if _stop_asked[-1] > _stop_asked[0] + 1:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _flags_in_force():
    return {flag.name: flag.value for flag in FLAGS.get_flags_for_module(train_flags)}


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    program.run(main)
