"""Train a mask model: python -m casm_tf.train --flagfile=configs/casm.flags

A run is a directory: the flags, the versions, the checkpoints, the TensorBoard events and at the
end model.keras, the mask model with its classifier. The same command resumes it.
"""

import contextlib
import pathlib
import sys

import casm_tf.host.quiet  # noqa: F401

# isort: split

import keras
import tensorflow as tf
from absl import flags
from PIL import Image

from casm_tf import networks, objectives, pretrained
from casm_tf.casm import CASM
from casm_tf.cli import limits, program, signals, train_flags
from casm_tf.data import damage, input_pipeline
from casm_tf.host import files
from casm_tf.report import figures
from casm_tf.serving import servable
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training import devices, hooks, loop, rates, run_directory
from casm_tf.training.pretraining import Pretraining, warning_of_a_poor_classifier

FLAGS = flags.FLAGS
# What may change between two calls for one run.
_CHANGEABLE = {"run_dir", "data_dir", "strategy", "checkpoint_every", "validate_every"}

flags.adopt_module_key_flags(train_flags)
for _name in ("max_pixels", "max_xml_bytes"):
    flags.declare_key_flag(_name)

_HEAD_STEPS = 300  # at most, of a new head on a trained network


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    thinning = _checked_thinning(run_dir)
    strategy = _strategy()
    dataset = _dataset()
    classifier, decoder = _networks(dataset, strategy)
    pretrains = _load(classifier, decoder, dataset.labels)
    signals.stop_when_asked()
    with _blaming_what_happens(dataset, strategy):
        training_of = (classifier, decoder, pretrains, thinning, dataset, strategy, run_dir)
        if devices.is_chief(strategy):
            _run_as_chief(run_dir, dataset, training_of)
        else:
            _run(*training_of)
        devices.wait_for_all(strategy)


def _checked_thinning(run_dir):
    """Refuse flags that contradict each other or the run; the `Thinning`."""
    with program.blaming("run_dir"):
        run_directory.check_same(run_dir, _flags_in_force(), _CHANGEABLE)
    if FLAGS.classifier_form == "masked" and FLAGS.masked_steps == "present":
        raise program.UserError("--classifier_form: 'masked' needs --masked_steps=always")
    is_trained = FLAGS.classifier_weights or FLAGS.start == "pretrained"
    if FLAGS.targets == "predictions" and FLAGS.dataset == "image_folder" and not is_trained:
        raise program.UserError(
            "--targets: predictions are those of a trained classifier, and there are no labels to "
            "train one on; give --classifier_weights or --start=pretrained"
        )
    with program.blaming("thinning"):
        if FLAGS.thinning in ("F", "L"):
            return Thinning.named(FLAGS.thinning)
        changes = {"probability": FLAGS.past_probability, "overwrite": FLAGS.overwrite}
        return Thinning.named(FLAGS.thinning, **changes, capacity=FLAGS.snapshots)


def _strategy():
    with program.blaming("strategy"):
        strategy = devices.make(FLAGS.strategy)  # before anything that TensorFlow does
    replicas = strategy.num_replicas_in_sync
    if FLAGS.batch_size % replicas:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} images for {replicas} replicas")
    if FLAGS.xla and FLAGS.precision != "float32" and not tf.config.list_physical_devices("GPU"):
        raise program.UserError(f"--xla: on CPUs it takes float32 only; found {FLAGS.precision}")
    return strategy


def _dataset():
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
    return dataset


def _networks(dataset, strategy):
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(FLAGS.seed)
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    with strategy.scope():
        with program.blaming("image_size"):
            classifier = networks.classifier(
                FLAGS.classifier, dataset.image_size, len(dataset.labels)
            )
        shape = (dataset.image_size, FLAGS.decoder_channels, FLAGS.upsampling, FLAGS.smoothing)
        with program.blaming("smoothing"):
            decoder = networks.decoder(networks.map_shapes(classifier), *shape)
    if FLAGS.synchronized_batch_normalization:
        networks.synchronize_batch_normalization(classifier)
        networks.synchronize_batch_normalization(decoder)
    return classifier, decoder


@contextlib.contextmanager
def _blaming_what_happens(dataset, strategy):
    """Turn what ends a training into a line: a stop, a lost worker, damaged data, no memory."""
    try:
        with (
            program.blaming("run_dir", OSError),
            program.blaming("data_dir", damage.DamagedFileError),
            damage.naming_files(dataset),
            program.blaming_memory("batch_size", "image_size", "decoder_channels", "snapshots"),
        ):
            yield
    except hooks.StoppedError as error:
        print(f"{error}; the same command resumes there")
        devices.wait_for_all(strategy)
    except devices.WorkerLostError as error:
        raise program.UserError(
            f"--strategy: another worker does not answer ({error}); start all workers again, and "
            "the training resumes from its last checkpoint"
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
            servable.fill(classifier, decoder, pretrained.MODEL, with_head=kept)
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
            networks.mask_model(model.classifier, model.decoder, model.encoder).save(path)
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
        if devices.is_chief(strategy):
            size = 4 * classifier.count_params() + 4096 * len(classifier.variables)
            with files.replacing(first) as path:
                files.check_room(run_dir, size)
                classifier.save_weights(path)
                files.sync(path)
            looked_at = input_pipeline.evaluation_batches(dataset, "validation", 32).take(16)
            warning = warning_of_a_poor_classifier(
                classifier, looked_at, is_labelled=FLAGS.targets == "labels"
            )
            if warning:
                print(warning, file=sys.stderr)
    return _train_masks(classifier, decoder, thinning, dataset, strategy, run_dir)


def _pretrain(classifier, dataset, strategy, run_dir, head_only):
    steps = min(FLAGS.pretraining_steps, _HEAD_STEPS) if head_only else FLAGS.pretraining_steps
    with strategy.scope():
        rate = keras.optimizers.schedules.PolynomialDecay(FLAGS.pretraining_rate, steps, 0.0)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=0.05)
        model = Pretraining(classifier, optimizer, head_only)
    _train(model, dataset, strategy, run_dir / "pretraining", steps, FLAGS.seed)


def _train_masks(classifier, decoder, thinning, dataset, strategy, run_dir):
    lambda_size = FLAGS.lambda_size
    if lambda_size is None:
        lambda_size = objectives.original_lambda(FLAGS.score, FLAGS.thinning, len(dataset.labels))
    first = FLAGS.first_lambda_size
    steps = _steps(dataset)
    fall = (FLAGS.decay, steps, FLAGS.decay_every)
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
            lambda_size=rates.switched(first, FLAGS.first_lambda_steps, lambda_size),
            lambda_variation=FLAGS.lambda_variation,
            classifier_form=FLAGS.classifier_form,
            masked_steps=FLAGS.masked_steps,
            weight_decay=FLAGS.weight_decay,
            clip_norm=FLAGS.clip_norm,
        )
        model.compile(
            keras.optimizers.SGD(rates.decayed(FLAGS.classifier_rate, *fall), momentum=0.9),
            keras.optimizers.Adam(rates.decayed(FLAGS.decoder_rate, *fall)),
            jit_compile=FLAGS.xla,
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
        pictures,
    )
    return model


def _train(model, dataset, strategy, directory, steps, seed, pictures=dict):
    data = (dataset, FLAGS.batch_size, seed)

    def training_batches(skip, part):
        crops = (FLAGS.smallest_crop, FLAGS.flip)
        return input_pipeline.training_batches(*data, skip, *crops, part)

    def validation_batches(part):
        batches = input_pipeline.evaluation_batches(
            dataset, "validation", FLAGS.batch_size // part[1], part=part
        )
        return batches.map(lambda batch: (batch["images"], batch["labels"]))

    def asked():
        return devices.is_any(strategy, signals.is_asked())

    schedule = hooks.Schedule(
        steps, validate_every=FLAGS.validate_every, checkpoint_every=FLAGS.checkpoint_every
    )
    try:
        loop.train(
            model,
            directory,
            schedule,
            FLAGS.batch_size,
            training_batches,
            validation_batches,
            pictures=pictures,
            asked=asked,
        )
    except hooks.NotFiniteError as error:
        path = directory / "not_finite.txt"
        names = input_pipeline.names_of_batch(*data, error.step)
        if devices.is_chief(strategy):
            with files.replacing(path) as unfinished:
                unfinished.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        raise program.UserError(
            f"--run_dir: {error}; {path} lists this step's pictures, the first is "
            f"{next(iter(names), 'not known')}. Take a lower rate, or look at those pictures"
        ) from error


def _steps(dataset):
    """The steps of the alternation, from --steps or --epochs."""
    if FLAGS.steps is not None:
        return FLAGS.steps
    images = dataset.builder.info.splits["train"].num_examples
    return max(1, round(FLAGS.epochs * images / FLAGS.batch_size))


def _flags_in_force():
    return {flag.name: flag.value for flag in FLAGS.get_flags_for_module(train_flags)}


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    program.run(main)
