"""Train five small classifiers that differ: python -m components.classifiers

They are for looking at masks through other classifiers than the one these were trained with. Leaves
NAME.keras for each, images -> logits, and classifiers.json with the accuracies on the test split.
One that is there already is passed over.
"""

import json
import pathlib
import time

from absl import flags

from casm_tf.cli import program

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", "runs/classifiers", "For the classifiers.")
flags.DEFINE_string("dataset", "digit_scenes/full", "As casm_tf.train's.")
flags.DEFINE_string(
    "data_dir", None, "Where TFDS keeps data sets; by default in the home directory."
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of the initial weights and the data's order; the second residual network has the next.",
    lower_bound=0,
)
flags.DEFINE_integer("steps", 1500, "Of each training.", lower_bound=1)
flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

from casm_tf.host import quiet  # before TensorFlow

# isort: split

import keras

from casm_tf.data import damage, datasets, input_pipeline
from casm_tf.host import files
from casm_tf.networks import small_classifiers
from casm_tf.training import devices, run_directory

_NETWORKS = {  # name: (network, what is added to the seed)
    "plain": (small_classifiers.plain, 0),
    "residual": (small_classifiers.residual, 0),
    "depthwise": (small_classifiers.depthwise, 0),
    "wide": (small_classifiers.wide, 0),
    "residual_2": (small_classifiers.residual, 1),
}
_RATE = 3e-3  # AdamW's first; it falls linearly to 0


def main():
    output_dir = pathlib.Path(FLAGS.output_dir)
    settings = {flag.name: flag.value for flag in FLAGS.get_flags_for_module("__main__")}
    with program.blaming("output_dir"):
        run_directory.check_same(output_dir, settings, {"output_dir", "data_dir"})
    with program.blaming_data():
        dataset = datasets.open_dataset(FLAGS.dataset, FLAGS.data_dir)
    size = dataset.builder.info.splits["train"].num_examples
    if FLAGS.batch_size > size:
        raise program.UserError(f"--batch_size: {FLAGS.batch_size} of {size} training images")
    with program.blaming("output_dir"):
        run_directory.describe(output_dir, settings, dataset.description())

    print(devices.described("float32", quiet.said))
    scores_path = output_dir / "classifiers.json"
    scores = json.loads(scores_path.read_text()) if scores_path.exists() else {}
    paths = {name: output_dir / f"{name}.keras" for name in _NETWORKS}
    for name, (network, added) in _NETWORKS.items():
        if name in scores and paths[name].exists():
            print(f"{paths[name]} is there")
            continue
        keras.utils.set_random_seed(FLAGS.seed + added)
        model = network(dataset.image_size, len(dataset.labels))
        with program.blaming("data_dir", damage.DamagedFileError), damage.naming_files(dataset):
            scores[name] = _train(model, dataset, FLAGS.seed + added)
        with files.replacing(paths[name]) as path:
            model.save(path)
        with files.replacing(scores_path) as path:
            path.write_text(json.dumps(scores, indent=2) + "\n")

    print(f"\n{'':12}{'top-1':>10}{'seconds':>10}")
    for name in paths:
        print(f"{name:12}{scores[name]['top1']:10.3f}{scores[name]['seconds']:10.0f}")
    print(f"\nmade  {scores_path} and {len(paths)} classifiers beside it")
    given = ",".join(map(str, paths.values()))
    given = "--run_dir=runs/demo", f"--classifiers={given}"
    print(f"next  {program.command('components.evaluator', *given)}")


def _train(model, dataset, seed):
    """Train a classifier on clean images: {"top1" on the test split, "seconds" of training}."""
    rate = keras.optimizers.schedules.PolynomialDecay(_RATE, FLAGS.steps, 0.0)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        jit_compile=False,  # XLA is slower on CPUs
    )
    print(f"{model.name}: {model.count_params()} parameters, {FLAGS.steps} steps")
    started = time.perf_counter()
    batches = input_pipeline.training_batches(dataset, FLAGS.batch_size, seed)
    model.fit(batches, steps_per_epoch=FLAGS.steps, shuffle=False)  # they are shuffled
    seconds = time.perf_counter() - started
    test = input_pipeline.evaluation_batches(dataset, "test", 128)
    test = test.map(lambda batch: (batch["images"], batch["labels"]))
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    return {"top1": accuracy, "seconds": seconds}


if __name__ == "__main__":
    program.run(main)
