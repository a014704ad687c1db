"""The paper's thought experiment (section 3.1): python -m benchmarks.two_halves

A picture is squeezed to half its width and set beside its own copy: a twin picture. One classifier
has learned to look at the left half (the right one showed another picture), one at the right, one
at either (both showed the same). Each is right on twin pictures, for its own reason. Masks are then
trained on twin pictures: against the fixed classifier (F, the baseline), and by CASM that starts
from it (thinning as L100's: 30 snapshots in a run). Where do they go?

`left_share` is the share of a mask's sum that lies in the left half, mean over the test pictures.
`left_hit` is the share of pictures where the left half of the binarized mask has a box (round its
largest component) whose IoU with the squeezed object's is above 0.5.

The last line is {"left": {"accuracy": [...], "F": {"left_share": [...], ...}, "CASM": ...},
"right": ..., "both": ...}, a figure a seed; figure.png shows the first seed's masks and the shares.
A classifier with its masks that is finished is not done again, and one that was broken off resumes.
"""

import json
import pathlib
import statistics

import casm_tf.host.quiet  # noqa: F401

# isort: split

import keras
import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.twin_pictures import beside, hits, shares
from casm_tf import networks
from casm_tf.casm import CASM
from casm_tf.cli import program
from casm_tf.data import datasets, input_pipeline
from casm_tf.evaluation import Accuracy
from casm_tf.host import files
from casm_tf.thinning import Snapshots, Thinning
from casm_tf.training import hooks, loop, rates, run_directory
from casm_tf.training.pretraining import Pretraining

FLAGS = flags.FLAGS

VIEWS = ("left", "right", "both")
# lambda_R of configs/f_tuned.flags and configs/casm.flags, the validation split's best: two digits
# of half the width cover what one did.
_LAMBDA = {"F": 6.0, "CASM": 9.0}
_SNAPSHOTS = 30
_SCORED = 125  # images at a time; it divides 1,000, so that no step is traced twice
_MEASURES = ("left_share", "right_share", "left_hit", "right_hit", "mask_mean")
_PICTURES = 4  # in the figure

flags.DEFINE_list("seeds", ["0", "1", "2"], "One training of each classifier and mask a seed.")
flags.DEFINE_list("views", list(VIEWS), "Where the classifiers look: of left, right and both.")
flags.DEFINE_string("runs_dir", "runs/two_halves", "Where the runs and figure.png go.")
flags.DEFINE_enum(
    "dataset", "digit_scenes/full", ["digit_scenes/full", "digit_scenes/tiny"], "What is squeezed."
)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps data sets.")
flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=2)
flags.DEFINE_integer("pretraining_steps", 2000, "Of each classifier.", lower_bound=1)
flags.DEFINE_integer("steps", 900, "Of each mask; the rates / 10 after 70% of them.", lower_bound=1)
flags.register_validator(
    "views", lambda views: views and set(views) <= set(VIEWS), f"views are of {', '.join(VIEWS)}"
)
flags.register_validator(
    "seeds", lambda seeds: seeds and all(map(str.isdecimal, seeds)), "seeds are integers from 0"
)


def main():
    runs_dir = pathlib.Path(FLAGS.runs_dir)
    with program.blaming("dataset", ValueError), program.blaming("data_dir", OSError):
        dataset = datasets.open_dataset(FLAGS.dataset, FLAGS.data_dir)
    settings = {
        name: FLAGS[name].value for name in ("dataset", "batch_size", "pretraining_steps", "steps")
    }
    directories = {
        view: {int(seed): runs_dir / f"{view}_seed{seed}" for seed in FLAGS.seeds}
        for view in FLAGS.views
    }
    with program.blaming("runs_dir"):
        for of_seeds in directories.values():
            for directory in of_seeds.values():
                run_directory.check_same(directory, settings, ())
    for seed in map(int, FLAGS.seeds):
        for view in FLAGS.views:
            directory = directories[view][seed]
            if not (directory / "results.json").exists():
                with program.blaming("runs_dir"):
                    run_directory.describe(directory, settings, dataset.description())
                _run(directory, dataset, view, seed)

    results = {view: _over_seeds(of_seeds.values()) for view, of_seeds in directories.items()}
    first = {view: next(iter(of_seeds.values())) for view, of_seeds in directories.items()}
    masks = {view: dict(np.load(directory / "masks.npz")) for view, directory in first.items()}
    _draw(masks, results, runs_dir / "figure.png")
    print(f"\n{'looks at':10}{'mask':6}" + "".join(f"{name:>13}" for name in _MEASURES))
    for view, values in results.items():
        for name in _LAMBDA:
            shown = (statistics.mean(values[name][measure]) for measure in _MEASURES)
            print(f"{view:10}{name:6}" + "".join(f"{value:13.3f}" for value in shown))
        print(f"{'':10}its classifier's accuracy {statistics.mean(values['accuracy']):.3f}")
    print(f"made  {runs_dir / 'figure.png'}")
    print(json.dumps(results))


def _run(directory, dataset, view, seed):
    """Train one classifier, its baseline's and its CASM's masks; write what came of them."""
    keras.utils.set_random_seed(seed)
    classifier = networks.classifier("small_resnet", dataset.image_size, len(dataset.labels))
    _pretrain(directory / "pretraining", classifier, dataset, view, seed)
    results = {"accuracy": _accuracy(classifier, dataset, view)}
    masks = {}
    # F first: it leaves the classifier as it is.
    for name in _LAMBDA:
        model = _train_masks(directory / name, name, classifier, dataset, seed)
        results[name], masks[name], masks["pictures"] = _scored(model, dataset)
    with files.replacing(directory / "masks.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **masks)
    with files.replacing(directory / "results.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def _pretrain(directory, classifier, dataset, view, seed):
    """Train the classifier on its kind of pictures, as casm_tf.train does on clean ones."""
    print(f"{directory}: a classifier that looks at {view}")
    rate = keras.optimizers.schedules.PolynomialDecay(3e-3, FLAGS.pretraining_steps, 0.0)
    model = Pretraining(classifier, keras.optimizers.AdamW(rate, weight_decay=0.05))
    _train(model, directory, dataset, view, seed, FLAGS.pretraining_steps)


def _train_masks(directory, name, classifier, dataset, seed):
    """The mask model, trained on twin pictures with the settings of configs/casm.flags."""
    print(f"{directory}: masks on twin pictures")
    every = max(1, FLAGS.steps // _SNAPSHOTS)
    thinning = "F" if name == "F" else f"L{every}"
    changes = {} if name == "F" else {"capacity": _SNAPSHOTS}
    keras.utils.set_random_seed(seed)
    decoder = networks.decoder(networks.map_shapes(classifier), dataset.image_size, 32, "bilinear")
    model = CASM(
        classifier,
        decoder,
        Snapshots(classifier, Thinning.named(thinning, **changes), seed),
        lambda_size=_LAMBDA[name],
        masked_steps="present",
    )
    fall = ("steps", FLAGS.steps, max(1, FLAGS.steps * 7 // 10))
    model.compile(
        keras.optimizers.SGD(rates.decayed(0.03, *fall), momentum=0.9),
        keras.optimizers.Adam(rates.decayed(0.003, *fall)),
    )
    _train(model, directory, dataset, "both", seed + 1, FLAGS.steps)
    return model


def _train(model, directory, dataset, view, seed, steps):
    def training_batches(skip, part):
        batches = input_pipeline.training_batches(dataset, FLAGS.batch_size, seed, skip, part=part)
        return batches.map(lambda images, labels: (beside(images, view), labels))

    def validation_batches(part):
        batches = input_pipeline.evaluation_batches(dataset, "validation", _SCORED, part=part)
        return batches.map(lambda batch: (beside(batch["images"], view), batch["labels"]))

    loop.train(
        model,
        directory,
        hooks.Schedule(steps, validate_every=steps, checkpoint_every=steps),
        loop.Batches(FLAGS.batch_size, training_batches, validation_batches),
    )


def _accuracy(classifier, dataset, view):
    """The classifier's on the test pictures of its own kind."""
    accuracy = Accuracy()
    for batch in input_pipeline.evaluation_batches(dataset, "test", _SCORED):
        logits = classifier(beside(batch["images"], view), training=False)["logits"]
        accuracy.accumulate(batch["labels"], clean=logits.numpy().argmax(-1))
    return accuracy.compute()["top1"]


def _scored(model, dataset):
    """The masks' measures over the test split's twin pictures; the first masks and pictures."""
    rows, first = [], None
    for batch in input_pipeline.evaluation_batches(dataset, "test", _SCORED):
        pictures = beside(batch["images"], "both")
        masks = model(pictures, training=False).numpy()[..., 0]
        counts = batch["box_counts"].numpy()
        boxes = [padded[:n] for padded, n in zip(batch["boxes"].numpy(), counts, strict=True)]
        found = [hits(mask, of_mask) for mask, of_mask in zip(masks, boxes, strict=True)]
        means = masks.mean(axis=(1, 2))[:, None]
        rows.append(np.concatenate([shares(masks), found, means], axis=1))
        if first is None:
            first = masks[:_PICTURES], dataset.denormalise(pictures[:_PICTURES])
    means = np.concatenate(rows).mean(axis=0).tolist()
    return dict(zip(_MEASURES, means, strict=True)), *first


def _over_seeds(directories):
    """{"accuracy": [a figure a seed], "F": {measure: [...]}, "CASM": ...}."""
    runs = [json.loads((directory / "results.json").read_text()) for directory in directories]
    masks = {
        name: {measure: [run[name][measure] for run in runs] for measure in _MEASURES}
        for name in _LAMBDA
    }
    return {"accuracy": [run["accuracy"] for run in runs], **masks}


def _draw(masks, results, path):
    """Twin pictures, each classifier's masks by F and by CASM, and below the shares of the left."""
    columns = [(name, view) for name in _LAMBDA for view in masks]
    pictures = next(iter(masks.values()))["pictures"]
    figure = Figure(figsize=(1.3 * (len(columns) + 1), 1.3 * (len(pictures) + 2)))
    grid = figure.add_gridspec(
        len(pictures) + 1,
        len(columns) + 1,
        height_ratios=[1] * len(pictures) + [1.4],
        **{"left": 0.02, "right": 0.98, "top": 0.94, "bottom": 0.12, "wspace": 0.06, "hspace": 0.1},
    )
    for row, picture in enumerate(pictures):
        shown = [("twin picture", picture)]
        shown += [(f"{name}, {view}", masks[view][name][row]) for name, view in columns]
        for column, (title, image) in enumerate(shown):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.ndim == 3 else 1)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=8)
    axes = figure.add_subplot(grid[len(pictures), 1:])
    values = [results[view][name] for name, view in columns]
    left, right = (
        np.array([statistics.mean(value[f"{half}_share"]) for value in values])
        for half in ("left", "right")
    )
    places = np.arange(len(columns))
    axes.bar(places, left, width=0.6, color="#E69F00", label="left half")
    axes.bar(places, right, width=0.6, bottom=left, color="#56B4E9", label="right half")
    for place, value in zip(places, values, strict=True):
        axes.scatter([place] * len(value["left_share"]), value["left_share"], s=8, color="black")
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
    axes.set_xlim(-0.5, len(columns) - 0.5)  # each bar below its masks
    axes.set_xticks(places, [f"{name}, {view}" for name, view in columns], fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel("share of the mask", fontsize=8)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)
    with files.replacing(path) as unfinished:
        FigureCanvasAgg(figure).print_png(unfinished)


if __name__ == "__main__":
    program.run(main)
