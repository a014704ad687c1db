"""Sharpen a mask model on pictures without labels: python -m casm_tf.sharpen

    python -m casm_tf.sharpen --flagfile=configs/sharpen.flags --model=runs/photographs \\
        --image_dir=FOLDER --run_dir=runs/sharp

The model's masks, and what its classifier makes of each place, are cut along the pictures' colours.
Where both agree a finer decoder learns from that, and then from its own masks, in rounds. What is
left is a run like one of casm_tf.train: casm_tf.extract, components.evaluator and components.pusher
take it. The same command resumes one that was broken off.

Here --classifier_weights is the classifier before the alternation of a model that components.pusher
made; a run has its own. --decoder_rate is AdamW's in the first round; later ones have half, and the
encoder a tenth.
"""

import pathlib

from absl import flags

from casm_tf.cli import limits, program, train_flags

FLAGS = flags.FLAGS

_OWN = ("model", "teachers", "pictures", "round_steps")
_OF_TRAINING = (
    *("image_dir", "run_dir", "classifier_weights", "data_dir", "boxes", "masks", "smallest_crop"),
    *("seed", "batch_size", "decoder_rate", "deterministic", "checkpoint_every", "validate_every"),
)

for _name in (*_OF_TRAINING, "max_pixels"):
    flags.declare_key_flag(_name)
if __name__ == "__main__":
    flags.DEFINE_string(
        "model",
        None,
        "What is sharpened: a run of casm_tf.train or of this program, or what components.pusher "
        "made, of an EfficientNet-Lite0; by default the package's own model.",
    )
    flags.DEFINE_list(
        "teachers",
        ["masks", "activations"],
        "What the first labels come from: the model's masks, its classifier's activations, or the "
        "mean of both.",
    )
    flags.DEFINE_integer(
        "pictures",
        2000,
        "How many of the folder's training pictures are taken at most; 0.8 MB of memory each.",
        lower_bound=100,
    )
    flags.DEFINE_list("round_steps", ["500", "400"], "The steps of each round.")
    flags.mark_flags_as_required(["image_dir", "run_dir"])
    program.parse()  # before TensorFlow is imported

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from casm_tf import networks
from casm_tf.cli import from_flags, signals, trainings
from casm_tf.data import input_pipeline
from casm_tf.host import files
from casm_tf.report import figures
from casm_tf.second_stage import first_stage, rounds, sharpening, teachers
from casm_tf.second_stage.student import Student
from casm_tf.training import hooks, loop, rates, run_directory

_LEAST_PICTURES = 30  # that are learned from
_SHOWN = 16  # in TensorBoard
_AT_ONCE = 16  # pictures a forward pass of a teacher
_CHANGEABLE = from_flags.CHANGEABLE | {"model", "classifier_weights"}


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    steps = _checked_flags()
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(FLAGS.seed)
    first = _first_stage()
    settings = _settings(first, sum(steps))
    defaults = {flag.name: flag.default for flag in FLAGS.get_flags_for_module(train_flags)}
    with program.blaming("run_dir"):
        run_directory.check_same(run_dir, settings, _CHANGEABLE, defaults)
        files.check_outside(run_dir, FLAGS.image_dir)
    with program.blaming_data():
        dataset = input_pipeline.of_all_classes({**settings, "image_size": sharpening.PIXELS})
    _check_pictures(dataset)
    with program.blaming("run_dir"):
        run_directory.check_same_data(run_dir, dataset.description())
    signals.stop_when_asked()
    strategy = tf.distribute.get_strategy()
    described = trainings.described(run_dir, settings, dataset, strategy)
    large = ("batch_size", "pictures")
    with trainings.blaming_what_happens(dataset, strategy, large), described:
        run_directory.keep_first(first.classifier, run_dir)
        student = _sharpened(first, dataset, steps, run_dir)
        model = networks.mask_model(student.classifier, student.decoder)
        with files.replacing(run_dir / "model.keras") as path:
            model.save(path)
        print(f"made  {run_dir / 'model.keras'}: the mask model and its classifier")
        print(f"next  {program.command('casm_tf.extract', f'--model={run_dir}', 'PHOTO.jpg')}")
        print(f"      {program.command('components.pusher', f'--run_dir={run_dir}')}")


def _first_stage():
    with program.blaming("model"):
        first = first_stage.opened(FLAGS.model)
    if FLAGS.classifier_weights:
        with program.blaming("classifier_weights"):
            networks.load_weights(first.classifier, FLAGS.classifier_weights)
    return first


def _checked_flags():
    """The steps of each round; a `UserError` for flags that are of no use here."""
    for flag in FLAGS.get_flags_for_module(train_flags):
        if flag.present and flag.name not in (*_OF_TRAINING, *_OWN):
            raise program.UserError(f"--{flag.name}: is casm_tf.train's alone")
    if not FLAGS.teachers or set(FLAGS.teachers) - set(sharpening.TEACHERS):
        expected = ", ".join(sharpening.TEACHERS)
        raise program.UserError(f"--teachers: expected {expected}; found {FLAGS.teachers}")
    with program.blaming("round_steps"):
        steps = [int(number) for number in FLAGS.round_steps]
        if not steps or min(steps) < 1:
            raise ValueError(f"expected the steps of each round, 1 or more; found {steps}")
    return steps


def _settings(first, steps):
    """What run.json says of the flags: those of a training, too, as every run has them."""
    own = {name: FLAGS[name].value for name in _OWN}
    own |= {"model": str(first.place), "first": first.digest()}
    of_model = {"classifier": first.architecture, "image_size": first.image_size}
    whole = {"dataset": "image_folder", "targets": "predictions", "steps": steps}
    return {**from_flags.settings(), **own, **of_model, **whole}


def _sharpened(first, dataset, steps, run_dir):
    """The `Student` after the last round."""
    pictures = _pictures(dataset)
    predictions = _predictions(run_dir / "predictions.npz", first, pictures, dataset)
    keras.utils.set_random_seed(FLAGS.seed)
    classifier, decoder = first.student()
    starts = teachers.of_first_stage(first, FLAGS.teachers, dataset)
    for number, count in enumerate(steps):
        labels, chances = _labels(run_dir / f"labels{number}.npz", pictures, starts, number == 0)
        rate = FLAGS.decoder_rate if number == 0 else FLAGS.decoder_rate / 2
        student = Student(classifier, decoder, rates.decayed(rate, "cosine", count))
        learned = rounds.Learned(pictures, labels, predictions, chances)
        batches = rounds.batches(
            *(learned, dataset, first.image_size, FLAGS.batch_size),
            *(FLAGS.smallest_crop, FLAGS.seed + number),
        )
        schedule = hooks.Schedule(
            count, checkpoint_every=FLAGS.checkpoint_every, validate_every=FLAGS.validate_every
        )
        shown = _masks_shown(student, pictures[:_SHOWN], dataset)
        loop.train(student, run_dir / f"round{number}", schedule, batches, shown, signals.is_asked)
        starts = teachers.of_student(student, dataset)
    return student


def _predictions(path, first, pictures, dataset):
    """What the first classifier predicts of each picture, float16 [N, K]; kept in a file."""
    if not path.exists():
        size = (first.image_size, first.image_size)
        classify = tf.function(lambda x: first.classifier(x, training=False)["logits"])
        found = []
        for number in tqdm(range(0, len(pictures), _AT_ONCE), "predictions", unit="batch"):
            _stop_if_asked("the predictions were made")
            some = dataset.normalise(pictures[number : number + _AT_ONCE])
            some = tf.image.resize(some, size, antialias=True)
            found.append(tf.nn.softmax(classify(some)).numpy().astype(np.float16))
        _keep(path, predictions=np.concatenate(found))
    return _kept(path, "predictions")


def _check_pictures(dataset):
    there = dataset.builder.info.splits["train"].num_examples
    if there < _LEAST_PICTURES:
        raise program.UserError(
            f"--image_dir: expected {_LEAST_PICTURES} training pictures or more; found {there}"
        )


def _pictures(dataset):
    """Some of the training pictures, uint8 [N, PIXELS, PIXELS, 3], at most --pictures."""
    there = dataset.builder.info.splits["train"].num_examples
    every = -(-there // FLAGS.pictures)
    batches = input_pipeline.evaluation_batches(dataset, "train", 32, "squash", every=every)
    found = []
    for batch in tqdm(batches, "pictures", -(-there // every // 32), unit="batch"):
        _stop_if_asked("the pictures were read")
        found.append(dataset.denormalise(batch["images"]))
    return np.concatenate(found)


def _labels(path, pictures, starts_of, is_first):
    """Labels, uint8 [N, CELLS, CELLS], and each picture's chance; kept in a file."""
    if not path.exists():
        starts = []
        for number in tqdm(range(0, len(pictures), _AT_ONCE), f"masks, {path.stem}", unit="batch"):
            _stop_if_asked("the labels were made")
            starts.append(starts_of(pictures[number : number + _AT_ONCE]))
        starts = np.concatenate(starts).astype(np.float32)
        with tqdm(total=len(pictures), desc=f"cuts, {path.stem}", unit="picture") as progress:

            def report():
                progress.update()
                _stop_if_asked("the labels were made")

            cutouts = sharpening.cuts(pictures, starts, report)
        chances = sharpening.chances(cutouts, starts)
        agreeing = np.count_nonzero(chances)
        print(f"{path.stem}: masks and colours agree in {agreeing} of {len(pictures)} pictures")
        if agreeing < _LEAST_PICTURES // 2:
            raise program.UserError(
                f"--image_dir: in {agreeing} of {len(pictures)} pictures masks and colours agree; "
                f"expected {_LEAST_PICTURES // 2} or more to learn from"
            )
        labels = np.round(255 * sharpening.blended(cutouts, starts, is_first)).astype(np.uint8)
        _keep(path, labels=labels, chances=chances)
    return _kept(path, "labels"), _kept(path, "chances")


def _keep(path, **arrays):
    with files.replacing(path) as unfinished:
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)
        files.sync(unfinished)


def _kept(path, name):
    try:
        with np.load(path) as arrays:
            return arrays[name]
    except Exception as error:  # zipfile and zlib raise what a broken file leads them to
        raise program.UserError(
            f"--run_dir: {path} is damaged; delete it, and it is made anew"
        ) from error


def _masks_shown(student, pictures, dataset):
    """() -> the student's masks of some pictures, for TensorBoard."""
    size = student.classifier.input_shape[1:3]
    shown = tf.image.resize(pictures, size, antialias=True)

    def masks():
        found = student(dataset.normalise(shown))["mask"].numpy()[..., 0]
        return {"masks": figures.mask_grid(shown.numpy().astype(np.uint8), found)}

    return masks


def _stop_if_asked(when):
    if signals.is_asked():
        raise hooks.StoppedError(f"{FLAGS.run_dir}: stopped while {when}, as asked")


if __name__ == "__main__":
    program.run(main)
