"""What a training starts from: weights for other classes, no labels, the shipped model."""

import json

import h5py
import numpy as np
import programs
import pytest
from trees import picture, write, write_tree

from casm_tf import networks, pretrained

SMALL = (
    *("--dataset=image_folder", "--image_size=32", "--batch_size=4", "--decoder_channels=4"),
    *("--steps=2", "--pretraining_steps=2", "--masked_steps=present"),
)


def train(*arguments):
    return programs.call("casm_tf.train", *SMALL, *arguments, eager=True)


def weights_of(classes, path):
    model = networks.classifier("small_resnet", 32, classes)
    model.save_weights(path)
    return path


def arrays(path):
    """{name: array} of a weights file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: np.asarray(item)}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_weights_for_other_classes_keep_all_but_the_head(tmp_path):
    write_tree(tmp_path / "tree", count=4)
    weights = weights_of(5, tmp_path / "five.weights.h5")
    done = train(
        *(f"--image_dir={tmp_path / 'tree'}", f"--data_dir={tmp_path / 'data'}"),
        *("--classifier=small_resnet", f"--classifier_weights={weights}"),
        f"--run_dir={tmp_path / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    said = f"note  {weights} is for 5 classes; the data set has 2: its head is not taken\n"
    assert said in done.stderr
    before, after = arrays(weights), arrays(tmp_path / "run" / "classifier.weights.h5")
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert {before[name].shape for name in changed} == {(128, 5), (5,)}
    assert {after[name].shape for name in changed} == {(128, 2), (2,)}


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """A run on a folder of pictures without labels, and what was said."""
    root = tmp_path_factory.mktemp("unlabelled")
    for number in range(12):
        write(root / "pictures" / f"{number}.jpg", picture(number))
    weights = weights_of(1000, root / "thousand.weights.h5")
    done = train(
        *(f"--image_dir={root / 'pictures'}", f"--data_dir={root / 'data'}"),
        *("--targets=predictions", "--classifier=small_resnet", f"--classifier_weights={weights}"),
        f"--run_dir={root / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    return root, done


def test_a_folder_without_labels_trains_and_a_classifier_that_knows_nothing_is_warned_of(
    unlabelled,
):
    root, done = unlabelled
    assert (root / "run" / "model.keras").exists()
    assert "Generating" not in done.stderr  # TFDS's bars, where there is no terminal
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert "sure of its predictions to" in line and "configs/finetune.flags" in line
    assert json.loads((root / "run" / "run.json").read_text())["labels"] == list(
        pretrained.imagenet_labels()
    )


def test_a_run_without_labels_is_scored_by_what_the_classifier_predicted(unlabelled):
    root, _ = unlabelled
    options = (f"--run_dir={root / 'run'}", "--compared=full_image", "--protocol=squash")
    done = programs.call("components.evaluator", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((root / "run" / "evaluation.json").read_text())["casm"]
    assert "top1" in found and "top1_before" not in found
    assert "no labels" in done.stdout


def test_predictions_of_a_classifier_for_other_classes_are_refused(tmp_path):
    for number in range(3):
        write(tmp_path / "pictures" / f"{number}.jpg", picture(number))
    weights = weights_of(5, tmp_path / "five.weights.h5")
    done = train(
        *(f"--image_dir={tmp_path / 'pictures'}", f"--data_dir={tmp_path / 'data'}"),
        *("--targets=predictions", "--classifier=small_resnet", f"--classifier_weights={weights}"),
        *(f"--run_dir={tmp_path / 'run'}", "--batch_size=1"),
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"train: --targets: predictions are those of a trained classifier; {weights} is for 5 "
        "classes; the data set has 1000"
    )


def test_the_names_of_imagenets_classes_are_a_thousand_different_ones():
    labels = pretrained.imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert labels[0] == "tench" and labels[281] == "tabby" and labels[999] == "toilet tissue"
