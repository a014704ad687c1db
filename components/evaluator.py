"""Score a run's masks, compare and draw them: python -m components.evaluator --run_dir=runs/demo

Writes evaluation.json (CASM and what it is compared with, on the same images by the same
evaluators: fractions, the same whenever it is run), comparison.json (what is no fraction: costs,
times, the saliency metric; what other classifiers say; of fewer than 100 pictures the standard
errors), figure.png (some pictures with the masks of CASM, CAM and Grad-CAM) and report.html (all of
it on one page, with curves), and prints the table, what CASM is ahead in and what it is not.

With --blessing it also leaves BLESSED there, or NOT_BLESSED and says why, by --max_le, --min_f1 and
--min_top1 and by how much worse the model is than the last that was blessed.
"""

import json
import pathlib
import shlex

from absl import flags

from casm_tf.choices import COMPARED, PRETRAINED, PROTOCOLS
from casm_tf.cli import limits, program

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "A run of casm_tf.train that is finished.", required=True)
flags.DEFINE_string("output_dir", None, "For the results; by default the run's directory.")
flags.DEFINE_string("data_dir", None, "Where the data set is, if not where the run had it.")
flags.DEFINE_string("examples", None, "Or what components.example_gen left, which tells it.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "What is scored.")
flags.DEFINE_enum(
    "protocol",
    "centre_crop",
    list(PROTOCOLS),
    "What is seen of a picture: the square in its middle, or all of it, squashed. On ImageNet LE "
    "of the whole image differs by 5 points between them.",
)
flags.DEFINE_integer(
    "resize",
    None,
    "Of --protocol=centre_crop: the shorter side, before the crop; by default the crop's.",
    lower_bound=32,
)
flags.DEFINE_integer(
    "every", 1, "Score every n-th image of the split: 10 for a tenth of them.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 128, "Images a forward pass.", lower_bound=1)
flags.DEFINE_float("alpha", 1.0, "Of the rule 'alpha times the mean' for boxes.", lower_bound=0)
flags.DEFINE_list(
    "compared",
    list(COMPARED),
    "What CASM is compared with. The maps are of the classifier before the alternation.",
)
flags.DEFINE_list(
    "runs",
    [],
    "Other runs whose masks are compared too, such as runs/f (thinning F); a path with a comma in "
    "double quotes. pretrained is the model that comes with the package; a run in a folder of that "
    "name is ./pretrained.",
)
flags.DEFINE_list(
    "classifiers",
    [],
    "Trained classifiers that look at the masks (Figure 3): ARCHITECTURE:FILE, "
    "keras.applications.NAME:FILE or .keras files.",
)
flags.DEFINE_integer(
    "perturbation_steps",
    0,
    "Of insertion and deletion: each takes so many forward passes an image and a method. 0 leaves "
    "them out.",
    lower_bound=0,
)
flags.DEFINE_string("blessing", None, "A directory for BLESSED or NOT_BLESSED.")
for _name, _help in {
    "max_le": "The largest LE that is blessed.",
    "min_f1": "The smallest F1 that is blessed.",
    "min_top1": "The smallest accuracy that is blessed.",
}.items():
    flags.DEFINE_float(_name, None, _help, lower_bound=0, upper_bound=1)
flags.DEFINE_string(
    "last_blessed", None, "Where the evaluation.json of the last model that was blessed is."
)
flags.DEFINE_float(
    "margin", 0.02, "How much worse than it LE, F1 and accuracy may be.", lower_bound=0
)
flags.declare_key_flag("max_pixels")
if __name__ == "__main__":
    program.parse()  # before TensorFlow is imported

from casm_tf.host import quiet  # before TensorFlow

# isort: split

from tqdm import tqdm

from casm_tf import networks
from casm_tf.data import damage, input_pipeline
from casm_tf.evaluation import checks, other_classifiers
from casm_tf.evaluation.comparison import Comparison, Method
from casm_tf.host import files
from casm_tf.networks import keras_files
from casm_tf.report import figures, page, terminal_table
from casm_tf.training import devices, run_directory
from components import blessing, examples

_OF_COMPARISON = (
    *("forward_passes", "seconds_per_image", "saliency_metric", "classifiers"),
    *("standard_error", "standard_error_of_difference"),
)


def main():
    limits.apply()
    run_dir = pathlib.Path(FLAGS.run_dir)
    output_dir = pathlib.Path(FLAGS.output_dir or run_dir)
    with program.blaming("run_dir"):
        run_directory.model_of(run_dir)
        run = run_directory.read(run_dir)
    with program.blaming("examples"):
        data_dir = examples.data_dir(FLAGS.examples, FLAGS.data_dir)
    with program.blaming("data_dir", OSError), program.blaming("run_dir", ValueError):
        dataset = run_directory.dataset_of(run_dir, data_dir)
    with program.blaming("run_dir"):
        model = _mask_model(run_dir, dataset)
        before = networks.classifier(
            run["flags"]["classifier"], dataset.image_size, len(dataset.labels)
        )
        networks.load_weights(before, run_dir / run_directory.FIRST_CLASSIFIER)
    with program.blaming("runs"):
        others = _other_methods(dataset)
    with program.blaming("classifiers"):
        observers = other_classifiers.load_all(FLAGS.classifiers, dataset)
    with program.blaming("compared"):
        compared = {name: Method.named(name, before) for name in FLAGS.compared}
    if FLAGS.resize and FLAGS.resize < dataset.image_size:
        raise program.UserError(
            f"--resize: {FLAGS.resize} is less than the crop's {dataset.image_size}"
        )
    pixels = dataset.image_size**2
    if FLAGS.perturbation_steps > pixels:
        raise program.UserError(
            f"--perturbation_steps: expected at most one a pixel, {pixels}; "
            f"found {FLAGS.perturbation_steps}"
        )
    with program.blaming("last_blessed"):
        baseline = blessing.metrics_of(FLAGS.last_blessed) if FLAGS.last_blessed else None
    for name in ("output_dir", "blessing"):
        with program.blaming(name):
            files.check_writable(FLAGS[name].value or output_dir)

    methods = {"casm": Method.of_model(model), **others, **compared}
    comparison = Comparison(
        *(dataset, methods, model, before, observers),
        *(FLAGS.alpha, FLAGS.perturbation_steps),
    )
    print(devices.described(run["flags"]["precision"], quiet.said))
    split = dataset.split(FLAGS.split)
    _score(comparison, dataset, split)
    scored = split if FLAGS.every == 1 else f"{split}, one image in {FLAGS.every}"
    results = {"protocol": _protocol(), "split": scored, **comparison.compute()}
    _write(output_dir, run, results, comparison)
    instead = "" if split == FLAGS.split else f"; its data have no {FLAGS.split} to be scored"
    print(f"{comparison.images} images of the split {scored}{instead}")
    print(terminal_table.text(results))
    print(f"made  evaluation.json, comparison.json, figure.png and report.html in {output_dir}")
    print(f"next  open {output_dir / 'report.html'} in a browser")
    if FLAGS.blessing:
        worst = {"LE": FLAGS.max_le, "F1": FLAGS.min_f1, "top1": FLAGS.min_top1}
        reasons = blessing.reasons_against(results["casm"], worst, baseline, FLAGS.margin)
        blessing.write(FLAGS.blessing, not reasons)
        print(f"not blessed: {'; '.join(reasons)}" if reasons else "blessed")


def _score(comparison, dataset, split):
    """Let the comparison see a split."""
    batches = input_pipeline.evaluation_batches(
        dataset, split, FLAGS.batch_size, FLAGS.protocol, FLAGS.resize, every=FLAGS.every
    )
    with (
        program.blaming("run_dir", checks.OutOfRangeError),
        program.blaming("data_dir", damage.DamagedFileError),
        damage.naming_files(dataset),
    ):
        for batch in tqdm(batches, desc=f"scoring {split}", unit="batch"):
            comparison.accumulate(batch)
    if not comparison.images:
        raise program.UserError(f"--split: {split!r} of the run's data has no image")


def _write(output_dir, run, results, comparison):
    """The figure, the page and the two JSON files."""
    output_dir.mkdir(parents=True, exist_ok=True)
    figures.pictures_and_masks(output_dir / "figure.png", **comparison.first)
    page.write_report(
        output_dir / "report.html",
        _part(results, lambda key: key != "classifiers"),
        dataset=run_directory.data_name(run["flags"]),
        split=results["split"],
        images=comparison.images,
        figure=output_dir / "figure.png",
        captions=comparison.first["captions"],
        classifiers={
            name: values["classifiers"]
            for name, values in results.items()
            if "classifiers" in values
        },
        examples=comparison.examples,
        made=_made(run),
        **comparison.curves(),
    )
    for name, keep in (
        ("comparison.json", lambda key: key in _OF_COMPARISON),
        ("evaluation.json", lambda key: key not in _OF_COMPARISON),
    ):
        with files.replacing(output_dir / name) as path:
            path.write_text(json.dumps(_part(results, keep), indent=2) + "\n")


def _mask_model(run_dir, dataset):
    """A run's model.keras. Raises ValueError where it is for other images or classes."""
    model = keras_files.load_keras(run_directory.model_of(run_dir))
    if not isinstance(model.output, dict) or not {"mask", "logits"} <= set(model.output):
        raise ValueError(f"{run_dir}/model.keras is no mask model of casm_tf.train")
    found = model.input_shape[1], model.output["logits"].shape[1]
    expected = dataset.image_size, len(dataset.labels)
    if found != expected:
        raise ValueError(
            f"{run_dir} is for images of {found[0]} pixels and {found[1]} classes; "
            f"the data have {expected[0]} and {expected[1]}"
        )
    return model


def _other_methods(dataset):
    """{name: `Method`} of --runs."""
    paths = run_directory.names(FLAGS.runs, {"protocol", "split", "casm", PRETRAINED, *COMPARED})
    return {
        name: Method.pretrained(dataset.image_size, dataset.mean, dataset.std)
        if path == PRETRAINED
        else Method.of_model(_mask_model(path, dataset))
        for name, path in paths.items()
    }


def _part(results, keep):
    """The results with those measures alone whose key `keep` wants; what is no row stays."""
    return {
        name: {key: value for key, value in values.items() if keep(key)}
        if isinstance(values, dict)
        else values
        for name, values in results.items()
    }


def _made(run):
    """How this can be made again."""
    own = FLAGS.get_flags_for_module("__main__")
    given = [flag.serialize() for flag in own if not flag.using_default_value]
    return {
        "command": f"python -m components.evaluator {shlex.join(given)}",
        "training": run_directory.trained_by(run),
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
    }


def _protocol():
    """What was seen of a picture, in a few words: LE depends on it."""
    if FLAGS.protocol == "centre_crop" and FLAGS.resize:
        return f"centre_crop, resize {FLAGS.resize}"
    return FLAGS.protocol


if __name__ == "__main__":
    program.run(main)
