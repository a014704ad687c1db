"""Train a mask model: python -m casm_tf.train --flagfile=configs/casm.flags

A run is a directory: the flags, the versions, the checkpoints, the TensorBoard events and at the
end model.keras, the mask model with its classifier. The same command resumes it.

Your own pictures in a folder for each class:
    python -m casm_tf.train --flagfile=configs/finetune.flags --targets=labels \\
        --image_dir=FOLDER --run_dir=runs/mine
Pictures without labels:
    python -m casm_tf.train --flagfile=configs/finetune.flags --image_dir=FOLDER --run_dir=runs/mine
A data set of TFDS's:
    python -m casm_tf.train --dataset=oxford_iiit_pet --classifier=resnet18 --run_dir=runs/pets
ImageNet, in its own folders (docs/imagenet.md):
    python -m casm_tf.train --flagfile=configs/imagenet/l100_e.flags --image_dir=IMAGENET \\
        --boxes=IMAGENET/Annotations --classifier_weights=resnet50.weights.h5 --run_dir=runs/l100_e
"""

import pathlib
import sys

from absl import flags

from casm_tf.cli import limits, program, signals, train_flags

FLAGS = flags.FLAGS

flags.declare_key_flag("max_pixels")
if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    program.parse(train_flags.GROUPS)  # before TensorFlow is imported

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

from casm_tf import lambdas, networks
from casm_tf.cli import from_flags, trainings
from casm_tf.data import input_pipeline
from casm_tf.host import files
from casm_tf.report import figures
from casm_tf.training import devices, loop, run_directory
from casm_tf.training.pretraining import warning_of_a_poor_classifier


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    thinning = from_flags.checked_thinning(run_dir)
    strategy = from_flags.strategy()
    dataset = from_flags.dataset()
    classifier, decoder = from_flags.classifier_and_decoder(dataset, strategy)
    critics = from_flags.further_critics(dataset, strategy)
    untrained_part = from_flags.load_weights(classifier, decoder, dataset.labels)
    signals.stop_when_asked()

    def asked():
        return devices.is_any(strategy, signals.is_asked())

    described = trainings.described(run_dir, from_flags.settings(), dataset, strategy)
    large = ("batch_size", "image_size", "decoder_channels", "snapshots")
    with trainings.blaming_what_happens(dataset, strategy, large), described:
        # f^(0), a trained classifier
        if (run_dir / run_directory.FIRST_CLASSIFIER).exists():
            with program.blaming("run_dir"):
                networks.load_weights(classifier, run_dir / run_directory.FIRST_CLASSIFIER)
        else:
            if untrained_part != "nothing":
                model, schedule = from_flags.pretraining(classifier, strategy, untrained_part)
                batches = from_flags.batches(dataset, FLAGS.seed)
                loop.train(model, run_dir / "pretraining", schedule, batches, asked=asked)
            if devices.is_chief(strategy):
                _keep_first(classifier, dataset, run_dir)

        model, schedule = from_flags.casm(classifier, decoder, critics, thinning, dataset, strategy)
        batches = from_flags.batches(dataset, FLAGS.seed + 1)  # others than the pretraining's
        pictures = _pictures(model, dataset)
        loop.train(model, run_dir / "masks", schedule, batches, pictures, asked)
        if devices.is_chief(strategy):
            _warn_of_masks(model, dataset)
            _save(model, run_dir)
        devices.wait_for_all(strategy)


def _keep_first(classifier, dataset, run_dir):
    """Write f^(0) into the run, and warn where it knows too little."""
    run_directory.keep_first(classifier, run_dir)
    looked_at = input_pipeline.evaluation_batches(dataset, "validation", 32).take(16)
    is_labelled = FLAGS.targets == "labels"
    warning = warning_of_a_poor_classifier(classifier, looked_at, is_labelled)
    if warning:
        print(warning, file=sys.stderr)


def _shown(dataset):
    """Some validation pictures, normalised."""
    return next(iter(input_pipeline.evaluation_batches(dataset, "validation", 16)))["images"]


def _pictures(model, dataset):
    """() -> the masks of some validation pictures, for TensorBoard."""
    shown = _shown(dataset)

    def pictures():
        masks = model(shown, training=False).numpy()[..., 0]
        return {"masks": figures.mask_grid(dataset.denormalise(shown), masks)}

    return pictures


def _warn_of_masks(model, dataset):
    mean = model(_shown(dataset), training=False).numpy().mean()
    warning = lambdas.warning_of_masks(mean)
    if warning:
        print(warning, file=sys.stderr)


def _save(model, run_dir):
    with files.replacing(run_dir / "model.keras") as path:
        networks.mask_model(model.classifier, model.decoder, model.encoder).save(path)
    print(f"made  {run_dir / 'model.keras'}: the mask model and its classifier")
    print(f"next  {program.command('components.evaluator', f'--run_dir={run_dir}')}")
    print(f"      {program.command('tensorboard.main', f'--logdir={run_dir}')}")


if __name__ == "__main__":
    program.run(main)
