"""Masks on Tiny ImageNet, by several methods: python -m benchmarks.tiny_imagenet

    python -m benchmarks.tiny_imagenet --classifier_weights=RUN/classifier.weights.h5 --seeds=0,1,2
    python -m benchmarks.tiny_imagenet --classifier=efficientnet_lite0 --image_size=224 \\
        --classifier_weights=efficientnet_lite0.weights.h5 --runs_dir=runs/tiny_imagenet_lite0 \\
        --batch_size=16 --steps=400 --extra=targets=predictions

Trained, from one classifier and otherwise as configs/tiny_imagenet.flags, are the rows that are not
in --runs_dir yet: L100 (thirty snapshots over the run), L, masked_in (L100 whose decoder is also to
keep what is recognised, by the follow-up's weights), all with masks of the flagfile's size, and F
with the original's lambda_R, with those of --f_lambdas, and with masks of that size too. A
broken-off call resumes; what is scored is not scored again.

Of the validation pictures every second one is for choices: F_tuned is F with the lambda_R or size,
and centre_box the box in the middle with the side, of the lowest LE there (F's with the first
seed). The table is of the others, its deviations over --seeds. `photographs` is the model that
comes with the package, which has not seen these data. CAM and Grad-CAM explain what the classifier
before the alternation predicts. OM goes by that classifier's predictions too, in the rows that are
trained by the run's own.

Of a classifier of ImageNet's 1,000 classes the head's rows for the 200 are taken: a prediction is
then the best of these.

The last line is {"rows": {row: {"LE": [a figure a seed], ...}}, "chosen": {"F_tuned": its lambda_R,
"centre_box": its side as a share of the picture's}}.
"""

import functools
import json
import pathlib

import casm_tf.host.quiet  # noqa: F401  (before TensorFlow)

# isort: split

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import runs
from benchmarks.half_scores import by_measure, kept, lowest, scored, table
from casm_tf import networks, pretrained
from casm_tf.cli import flagfiles, program
from casm_tf.data import input_pipeline
from casm_tf.evaluation import baselines
from casm_tf.evaluation.comparison import Method
from casm_tf.host import files
from casm_tf.serving.mask_model import MaskModel
from casm_tf.training import run_directory

FLAGS = flags.FLAGS

_FLAGFILE = pathlib.Path(__file__).parent.parent / "configs" / "tiny_imagenet.flags"
_TRAINED = ("L100", "L", "F", "masked_in")
# The table's order.
_ROWS = (
    *("F", "F_tuned", "L", "L100", "masked_in", "photographs"),
    *("cam", "grad_cam", "centre_box", "full_image"),
)
_FOLLOW_UP = 0.067  # its weights are 15 and 1
_SNAPSHOTS = 30  # of L100 and masked_in, over the run
# lambda_R: the original's, or the one that gives masks of the flagfile's size.
_ORIGINAL, _SIZE = "original", "size"
# Sides of boxes in the middle, as shares of the picture's.
_SHARES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_OTHER_NAMES = {"crane": "crane (machine)"}  # of ImageNet's classes

flags.DEFINE_enum(
    "classifier", "medium_resnet", networks.ARCHITECTURES, "The classifier's architecture."
)
flags.DEFINE_string(
    "classifier_weights",
    None,
    "The classifier before the alternation, of the 200 classes or of ImageNet's 1,000: a "
    ".weights.h5 file, such as any run's classifier.weights.h5.",
    required=True,
)
flags.DEFINE_integer("image_size", 64, "What the pictures are enlarged to.", lower_bound=32)
flags.DEFINE_list("seeds", ["0"], "One training of each row a seed; of F's others the first only.")
flags.DEFINE_list("rows", list(_TRAINED), f"What is trained, of {', '.join(_TRAINED)}.")
flags.DEFINE_list("f_lambdas", ["1"], "Of F, tried beside the original's and the flagfile's size.")
flags.DEFINE_float(
    "lambda_size",
    None,
    "lambda_R of the other rows; by default the one that gives masks of the flagfile's size.",
    lower_bound=0,
)
flags.DEFINE_integer("steps", None, "Of every training; by default the flagfile's.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Of the trainings; as above.", lower_bound=1)
flags.DEFINE_enum("precision", None, ["float32", "mixed_bfloat16"], "Of the trainings; as above.")
flags.DEFINE_list("extra", [], "More flags of every training: name=value, ...")
flags.DEFINE_string("runs_dir", "runs/tiny_imagenet", "Where the runs go; those there count.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets.")


def _is_number(text):
    try:
        return float(text) >= 0
    except ValueError:
        return False


for _name, _is_right, _expected in (
    ("seeds", str.isdecimal, "integers from 0"),
    ("rows", _TRAINED.__contains__, f"any of {', '.join(_TRAINED)}"),
    ("f_lambdas", _is_number, "numbers from 0"),
    ("extra", lambda item: "=" in item[1:], "flags without their dashes, as name=value"),
):
    flags.register_validator(
        _name, lambda items, is_right=_is_right: all(map(is_right, items)), f"expected {_expected}"
    )
flags.register_validator("seeds", bool, "expected one seed or more")


def main():
    runs_dir = pathlib.Path(FLAGS.runs_dir)
    common = common_flags()
    settings = common | {"extra": sorted(FLAGS.extra)}
    with program.blaming("runs_dir"):
        run_directory.check_same(runs_dir, settings, ())
    with program.blaming("data_dir"):
        dataset = input_pipeline.of_all_classes(
            common | {"image_size": FLAGS.image_size, "data_dir": FLAGS.data_dir}
        )
    with program.blaming("classifier_weights"):
        before, is_whole = classifier(dataset.labels)
    with program.blaming("runs_dir"):
        run_directory.check_same_data(runs_dir, dataset.description())
        if not is_whole:
            common["classifier_weights"] = runs_dir / run_directory.FIRST_CLASSIFIER
            runs_dir.mkdir(parents=True, exist_ok=True)
            with files.replacing(common["classifier_weights"]) as path:
                before.save_weights(path)
    # Once a row is there: a slip in --extra, which its training refuses, does not bind the next.
    describe = functools.partial(run_directory.describe, runs_dir, settings, dataset.description())
    batches = input_pipeline.evaluation_batches(dataset, "validation", 128)
    rows, chosen = {}, {}

    def run(row, weight, seed):
        scores = scores_of_run(batches, common, row, weight, seed)
        describe()
        return scores

    for row in FLAGS.rows:
        weight = _SIZE if FLAGS.lambda_size is None else FLAGS.lambda_size
        if row == "F":
            weight = _ORIGINAL
        rows[row] = [run(row, weight, seed) for seed in FLAGS.seeds]
        if row == "F":
            tried = {_ORIGINAL: rows["F"][0]}
            others = (_SIZE, *FLAGS.f_lambdas)
            tried |= {weight: run("F", weight, FLAGS.seeds[0]) for weight in others}
            best = chosen["F_tuned"] = lowest(tried)
            rows["F_tuned"] = [run("F", best, seed) for seed in FLAGS.seeds]
    look = untrained_methods(before, dataset)
    untrained = kept(runs_dir / "untrained", lambda: scored(batches, look, "untrained"))
    describe()
    boxes = {share: untrained.pop(box_name(share)) for share in _SHARES}
    best = chosen["centre_box"] = lowest(boxes)
    rows |= {name: [scores] for name, scores in untrained.items()} | {"centre_box": [boxes[best]]}

    results = {row: by_measure(rows[row]) for row in _ROWS if row in rows}
    print("\n".join(["", *table(results)]))
    print(f"chosen on the other half: {chosen}")
    print(json.dumps({"rows": results, "chosen": chosen}))


def common_flags():
    """{flag of casm_tf.train: value}, what all rows are trained with; the flagfile's, too."""
    lines = flagfiles.expanded([f"--flagfile={_FLAGFILE}"])
    said = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    steps = FLAGS.steps or int(said["steps"])
    given = {
        "classifier": FLAGS.classifier,
        "classifier_weights": files.absolute(FLAGS.classifier_weights),
        "image_size": FLAGS.image_size,
        "precision": FLAGS.precision,
        "batch_size": FLAGS.batch_size,
        "steps": steps,
        "decay_every": max(1, 2 * steps // 3),
        "validate_every": steps,
    }
    given = {name: str(value) for name, value in given.items() if value is not None}
    # A flag without a value is a true one.
    said = {name: value or "true" for name, value in said.items()}
    return said | given | dict(item.split("=", 1) for item in FLAGS.extra)


def flags_of(row, weight, seed, steps):
    """{flag of casm_tf.train: value}, what tells one run from the others."""
    is_thinned = row in ("L100", "masked_in")
    fixed = {"mask_size": None, "lambda_size": None if weight == _ORIGINAL else weight}
    return {
        **({} if weight == _SIZE else fixed),
        "thinning": f"L{max(1, steps // _SNAPSHOTS)}" if is_thinned else row,
        "masked_in_weight": _FOLLOW_UP if row == "masked_in" else None,
        "seed": seed,
    }


def name_of(row, weight, seed):
    """A run's folder."""
    named = weight in (_ORIGINAL, _SIZE)
    return f"{row}_{weight if named else f'{float(weight):g}'}_seed{seed}"


def scores_of_run(batches, common, row, weight, seed):
    """The scores of a run; it is trained and scored first where it is not yet."""
    run_dir = pathlib.Path(FLAGS.runs_dir) / name_of(row, weight, seed)

    def made():
        own = flags_of(row, weight, seed, int(common["steps"]))
        model = runs.model_of(run_dir, common | {"data_dir": FLAGS.data_dir} | own)

        def look(images):
            outputs = model.predict_on_batch(images)
            return outputs["logits"].argmax(-1), {row: outputs["mask"][..., 0]}

        return scored(batches, look, run_dir.name)[row]

    return kept(run_dir, made)


def classifier(labels):
    """The classifier before the alternation, and whether it is the file's with its whole head.

    Raises ValueError for weights of another network or of other classes, OSError for no file.
    """
    path, shape = FLAGS.classifier_weights, (FLAGS.classifier, FLAGS.image_size)
    model = networks.classifier(*shape, len(labels))
    if networks.load_weights(model, path, FLAGS.classifier):
        return model, True
    names = pretrained.imagenet_labels()
    whole = networks.classifier(*shape, len(names))
    if not networks.load_weights(whole, path, FLAGS.classifier):
        count = networks.classes_in(path, whole) or "other"
        raise ValueError(
            f"expected weights for {len(labels)} or {len(names)} classes; {path} is for {count}"
        )
    numbers = [names.index(_OTHER_NAMES.get(label, label)) for label in labels]
    head = networks.head(whole)
    networks.head(model).set_weights([weight[..., numbers] for weight in head.get_weights()])
    return model, False


def untrained_methods(before, dataset):
    """What `scored` takes of the methods that need no run: boxes of all sides, maps."""
    classify = tf.function(lambda images: before(images, training=False)["logits"])
    boxes = {box_name(share): share for share in _SHARES}
    photographs = MaskModel.load()

    def look(images):
        classes = classify(images).numpy().argmax(-1)
        named = ("cam", "grad_cam", "full_image")
        masks = {name: Method.named(name, before).masks(images, classes) for name in named}
        pictures = list(dataset.denormalise(images))
        masks["photographs"] = np.stack([found.mask for found in photographs(pictures)])
        for name, share in boxes.items():
            box = baselines.centre_box(*images.shape[1:3], share)
            masks[name] = np.broadcast_to(box, images.shape[:3])
        return classes, masks

    return look


def box_name(share):
    """What the box in the middle of a side is called among the scores."""
    return f"centre_box_{share:g}"


if __name__ == "__main__":
    program.run(main)
