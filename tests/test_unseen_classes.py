"""benchmarks.unseen_classes: the groups, the scores by group, and the program as a process."""

import json

import numpy as np
import programs
import pytest
import tensorflow_datasets as tfds

from benchmarks import unseen_classes
from casm_tf.data import datasets

CONFIG = """
--dataset=letter_scenes/tiny
--classifier=small_resnet
--decoder_channels=4
--batch_size=16
--pretraining_steps=2
--steps=2
--lambda_size=9
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A directory that holds letter_scenes/tiny."""
    directory = tmp_path_factory.mktemp("data")
    datasets.open_dataset("letter_scenes/tiny", str(directory))
    return directory


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [(1000, (50, 50, 100, 300, 300, 200)), (40, (2, 2, 4, 12, 12, 8)), (20, (1, 1, 2, 6, 6, 4))],
)
def test_groups_have_the_papers_shares_and_every_class_once(classes, sizes):
    labels = [str(number) for number in range(classes)]
    groups = unseen_classes.grouped(labels)
    assert dict(zip("ABCDEF", sizes, strict=True)) == {k: len(v) for k, v in groups.items()}
    members = [name for names in groups.values() for name in names]
    assert sorted(members) == sorted(labels)
    assert members != labels
    assert unseen_classes.grouped(labels) == groups


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="10 classes are too few"):
        unseen_classes.grouped(list("0123456789"))


class _EverythingIsSalient:
    """Takes the place of a model of classes 1, 4 and 7: the mask is full, the class is 4."""

    def predict_on_batch(self, images):
        return {
            "mask": np.ones((*images.shape[:3], 1), np.float32),
            "logits": np.eye(3, dtype=np.float32)[[1] * len(images)],
        }


def test_scores_are_those_of_each_groups_images(data_dir):
    dataset = datasets.open_dataset("letter_scenes/tiny", str(data_dir))
    # The classes in their order, so that a group is a range of labels.
    labels = dataset.labels
    groups = {"A": labels[:2], "B": labels[2:4], "C": labels[4:8]}
    groups |= {"D": labels[8:20], "E": labels[20:32], "F": labels[32:]}
    scores = unseen_classes._scores(_EverythingIsSalient(), dataset, groups, (1, 4, 7))

    ranges = {"A": range(2), "B": range(2, 4), "C": range(4, 8), "D": range(8, 20)}
    ranges |= {"E": range(20, 32), "F": range(32, 40), "all": range(40), "seen": (1, 4, 7)}
    ranges["unseen"] = sorted(set(range(40)) - {1, 4, 7})
    misses = {name: [] for name in ranges}
    for example in tfds.as_numpy(dataset.builder.as_dataset(split="test")):
        ymin, xmin, ymax, xmax = example["bbox"]
        for name, numbers in ranges.items():
            if example["label"] in numbers:
                misses[name].append((ymax - ymin) * (xmax - xmin) <= 0.5)
    for name, missed in misses.items():
        assert scores[f"LE_{name}"] == pytest.approx(np.mean(missed))
    assert len({scores[f"LE_{name}"] for name in ranges}) > 1
    assert scores["top1_seen"] == pytest.approx(1 / 3)  # as many images of each class


def test_rows_are_read_as_they_were_written(tmp_path):
    names = [f"{measure}_{images}" for measure in ("LE", "F1") for images in unseen_classes._SCORED]
    figures = {name: number / 7 for number, name in enumerate(names) if "unseen" not in name}
    whole = {"trained_on": "ABCDEF", "classes": 40, "top1_seen": 0.9, **figures}
    unseen_classes._write(tmp_path / "results.csv", {"ABCDEF": whole})
    rows = unseen_classes._read(tmp_path / "results.csv")
    assert unseen_classes._numbers(rows["ABCDEF"]) == {"classes": 40, "top1_seen": 0.9, **figures}


@pytest.mark.long
def test_the_program_makes_a_row_once(data_dir, tmp_path):
    config = tmp_path / "tiny.flags"
    config.write_text(CONFIG)
    runs_dir = tmp_path / "runs"

    def call():
        where = (f"--data_dir={data_dir}", f"--runs_dir={runs_dir}", f"--config={config}")
        return programs.call("benchmarks.unseen_classes", *where, "--rows=F")

    done = call()
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert set(results) == {"F"}
    assert results["F"]["classes"] == 8
    assert all(0 <= results["F"][f"{m}_{g}"] <= 1 for m in ("LE", "F1") for g in "ABCDEF")
    run = json.loads((runs_dir / "F" / "run.json").read_text())
    dataset = datasets.open_dataset("letter_scenes/tiny", str(data_dir))
    assert set(run["labels"]) == set(unseen_classes.grouped(dataset.labels)["F"])
    assert run["flags"]["lambda_size"] == 9.0
    assert len((runs_dir / "results.csv").read_text().splitlines()) == 2
    assert not list(runs_dir.rglob(".unfinished*"))

    # Nothing is left to train with, or to score.
    (runs_dir / "F" / "model.keras").unlink()
    again = call()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == results
    assert not (runs_dir / "F" / "model.keras").exists()

    config.write_text(CONFIG.replace("--steps=2", "--steps=3"))
    refused = call()
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--steps=2; found 3" in refused.stderr
