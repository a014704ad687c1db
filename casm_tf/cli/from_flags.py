"""What the flags of casm_tf.train ask for; a flag that cannot be had is a `UserError`."""

import sys

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from casm_tf import networks, objectives, pretrained
from casm_tf.casm import CASM
from casm_tf.cli import program, train_flags
from casm_tf.data import datasets, input_pipeline
from casm_tf.host import files
from casm_tf.lambdas import Multiplier
from casm_tf.serving import servable
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training import devices, hooks, loop, rates, run_directory
from casm_tf.training.pretraining import Pretraining

FLAGS = flags.FLAGS
# What may change between two calls for one run. The data may lie elsewhere: `check_same_data` looks
# whether they are the same, without boxes and masks, which are for scoring only.
CHANGEABLE = {"run_dir", "strategy", "checkpoint_every", "validate_every"}
CHANGEABLE |= {"data_dir", "image_dir", "classes", "boxes", "masks"}
_HEAD_STEPS = 300  # at most, of a new head on a trained network


def settings():
    """The flags that describe a run, {name: value}; the data's paths from anywhere."""
    found = {flag.name: flag.value for flag in FLAGS.get_flags_for_module(train_flags)}
    paths = ("image_dir", "boxes", "masks", "classes", "data_dir")
    return found | {name: files.absolute(found[name]) for name in paths}


def checked_thinning(run_dir):
    """The `Thinning`, of flags that contradict neither each other nor the run that is there."""
    with program.blaming("run_dir"):
        defaults = {flag.name: flag.default for flag in FLAGS.get_flags_for_module(train_flags)}
        run_directory.check_same(run_dir, settings(), CHANGEABLE, defaults)
        if FLAGS.image_dir is not None:
            files.check_outside(run_dir, FLAGS.image_dir)
    if FLAGS.classifier_form == "masked" and FLAGS.masked_steps == "present":
        raise program.UserError("--classifier_form: 'masked' needs --masked_steps=always")
    if FLAGS.mask_size is not None:
        if FLAGS.first_lambda_steps:
            raise program.UserError(
                "--first_lambda_steps: with --mask_size lambda_R moves by itself"
            )
        if FLAGS.lambda_size == 0:
            raise program.UserError("--lambda_size: with --mask_size it starts above 0; found 0.0")
    if FLAGS.start == "pretrained" and FLAGS.aligned:
        raise program.UserError("--aligned: the model for photographs was trained without it")
    is_trained = FLAGS.classifier_weights or FLAGS.start == "pretrained"
    if FLAGS.targets == "predictions" and FLAGS.dataset == "image_folder" and not is_trained:
        raise program.UserError(
            "--targets: predictions are those of a trained classifier, and there are no labels to "
            "train one on; give --classifier_weights or --start=pretrained"
        )
    with program.blaming("thinning"):
        if FLAGS.thinning in ("F", "L"):
            return Thinning.named(FLAGS.thinning)
        changes = {"probability": FLAGS.past_probability, "capacity": FLAGS.snapshots}
        return Thinning.named(FLAGS.thinning, **changes)


def strategy():
    """The `tf.distribute.Strategy`."""
    with program.blaming("strategy"):
        made = devices.make(FLAGS.strategy)  # before anything that TensorFlow does
    replicas = made.num_replicas_in_sync
    if FLAGS.batch_size % replicas:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} images for {replicas} replicas")
    if FLAGS.fill == "shuffle" and FLAGS.batch_size == replicas:
        raise program.UserError(
            f"--fill: shuffle needs two images a replica; found {FLAGS.batch_size} for {replicas}"
        )
    if FLAGS.xla and not tf.config.list_physical_devices("GPU"):
        if FLAGS.precision != "float32":
            raise program.UserError(
                f"--xla: on CPUs it takes float32 only; found {FLAGS.precision}"
            )
        if replicas > 1:  # one reads another's variables, which XLA refuses
            raise program.UserError(f"--xla: on CPUs it takes one device; found {replicas}")
    return made


def dataset():
    """The `Dataset`, prepared."""
    with program.blaming_data():
        found = input_pipeline.of_all_classes(settings())
    if FLAGS.classes:
        with program.blaming("classes"):
            found = datasets.of_classes(found, FLAGS.classes)
    size = found.builder.info.splits["train"].num_examples
    with program.blaming("run_dir"):
        run_directory.check_same_data(FLAGS.run_dir, found.description())
    if FLAGS.batch_size > size:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} of {size} training images")
    return found


def classifier_and_decoder(dataset, strategy):
    """Both networks, as they start without any weights given."""
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(FLAGS.seed)
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    with strategy.scope():
        with program.blaming("image_size"):
            classifier = networks.classifier(
                FLAGS.classifier, dataset.image_size, len(dataset.labels)
            )
        if FLAGS.levels is not None:
            with program.blaming("levels"):
                classifier = networks.with_coarsest_maps(classifier, FLAGS.levels)
        if FLAGS.start == "pretrained":  # whose decoder is of the second stage
            classifier = networks.with_finest_map(classifier)
            decoder = networks.fine_decoder(networks.map_shapes(classifier), dataset.image_size)
        else:
            shape = (dataset.image_size, FLAGS.decoder_channels, FLAGS.upsampling, FLAGS.smoothing)
            places = networks.map_places(classifier) if FLAGS.aligned else None
            with program.blaming("smoothing"):
                decoder = networks.decoder(networks.map_shapes(classifier), *shape, places)
    if FLAGS.synchronized_batch_normalization:
        networks.synchronize_batch_normalization(classifier)
        networks.synchronize_batch_normalization(decoder)
    return classifier, decoder


def load_weights(classifier, decoder, labels):
    """Give the networks the weights that are asked for.

    Returns what of the classifier is then to be pretrained: "all", "head" or "nothing".
    """
    if FLAGS.start == "pretrained":
        with program.blaming("start"):
            if FLAGS.classifier_weights:
                raise ValueError("pretrained has its own classifier; found --classifier_weights")
            kept = labels == pretrained.imagenet_labels()
            servable.fill(classifier, decoder, pretrained.MODEL, with_head=kept)
            other = "the model for photographs is for 1000 classes"
    elif FLAGS.classifier_weights:
        with program.blaming("classifier_weights"):
            file = FLAGS.classifier_weights
            kept = networks.load_weights(classifier, file, FLAGS.classifier)
            other = f"{file} is for {networks.classes_in(file, classifier) or 'other'} classes"
    else:
        return "all"
    if kept:
        return "nothing"
    other += f"; the data set has {len(labels)}"
    if FLAGS.targets == "predictions":
        raise program.UserError(
            f"--targets: predictions are those of a trained classifier; {other}"
        )
    print(f"note  {other}: its head is not taken", file=sys.stderr)
    return "head"


def further_critics(dataset, strategy):
    """What `CASM` takes as further critics, a data set's images -> logits."""
    with strategy.scope(), program.blaming("critics"):
        return [_critic(text, dataset) for text in FLAGS.critics]


def _critic(text, dataset):
    architecture, _, file = text.partition(":")
    if architecture not in networks.ARCHITECTURES or not file:
        raise ValueError(f"expected ARCHITECTURE:FILE; found {text!r}")
    critic = networks.classifier(architecture, dataset.image_size, len(dataset.labels))
    if not networks.load_weights(critic, file, architecture):
        raise ValueError(f"{file} is for other classes than the data set's")
    # Each network's own normalisation, or the data's; the images have that of --classifier.
    own = networks.normalisation(architecture)
    mean, std = own or datasets.own_normalisation(dataset.builder)
    scale = tf.constant(np.divide(dataset.std, std), tf.float32)
    shift = tf.constant(np.divide(np.subtract(dataset.mean, mean), std), tf.float32)
    at_rest = networks.AtRest(critic)
    return lambda images: at_rest(images * scale + shift)


def pretraining(classifier, strategy, part):
    """The `Pretraining` of all of a classifier or of its head alone, and its `Schedule`."""
    steps = FLAGS.pretraining_steps
    if part == "head":
        steps = min(steps, _HEAD_STEPS)
    with strategy.scope():
        rate = keras.optimizers.schedules.PolynomialDecay(FLAGS.pretraining_rate, steps, 0.0)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=0.05)
        model = Pretraining(classifier, optimizer, part == "head", jit_compile=FLAGS.xla)
    return model, _schedule(steps)


def casm(classifier, decoder, critics, thinning, dataset, strategy):
    """The `CASM`, compiled, and its `Schedule`."""
    steps = _steps(dataset)
    fall = (FLAGS.decay, steps, FLAGS.decay_every)
    if FLAGS.frozen_normalizations:
        networks.freeze_normalizations(classifier)
    snapshots = Snapshots(classifier, thinning, FLAGS.seed, FLAGS.snapshot_precision)
    with strategy.scope():
        encoder = None if FLAGS.shared_encoder else networks.encoder_copy(classifier)
        teacher = networks.copy(classifier) if FLAGS.targets == "predictions" else None
        model = CASM(
            classifier,
            decoder,
            snapshots,
            encoder,
            teacher,
            critics,
            score=FLAGS.score,
            size=FLAGS.size,
            lambda_size=_lambda_size(len(dataset.labels)),
            lambda_variation=FLAGS.lambda_variation,
            masked_in_weight=FLAGS.masked_in_weight,
            fill=FLAGS.fill,
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
    return model, _schedule(steps)


def _lambda_size(num_classes):
    """lambda_R, as `CASM` takes it."""
    size, steps = FLAGS.lambda_size, FLAGS.first_lambda_steps
    if size is None:
        size = objectives.original_lambda(FLAGS.score, FLAGS.thinning, num_classes)
    if FLAGS.mask_size is None:
        return rates.switched(FLAGS.first_lambda_size, steps, size)
    with program.blaming("lambda_size"):
        return Multiplier(FLAGS.mask_size, size)


def batches(dataset, seed):
    """The `Batches` of a data set."""
    shuffled = (dataset, FLAGS.batch_size, seed)

    def training(skip, part):
        crops = (FLAGS.smallest_crop, FLAGS.flip)
        return input_pipeline.training_batches(*shuffled, skip, *crops, part)

    def validation(part):
        share = FLAGS.batch_size // part[1]
        found = input_pipeline.evaluation_batches(dataset, "validation", share, part=part)
        return found.map(lambda batch: (batch["images"], batch["labels"]))

    def names(step):
        return input_pipeline.names_of_batch(*shuffled, step)

    return loop.Batches(FLAGS.batch_size, training, validation, names)


def _schedule(steps):
    return hooks.Schedule(
        steps, validate_every=FLAGS.validate_every, checkpoint_every=FLAGS.checkpoint_every
    )


def _steps(dataset):
    """The steps of the alternation, from --steps or --epochs."""
    if FLAGS.steps is not None:
        return FLAGS.steps
    images = dataset.builder.info.splits["train"].num_examples
    return max(1, round(FLAGS.epochs * images / FLAGS.batch_size))
