"""A run keeps what it was trained on: other data are refused, and exporting needs none."""

import json
import shutil

import programs
import pytest
from trees import picture, write, write_tree

from casm_tf import networks
from casm_tf.data import datasets, input_pipeline
from casm_tf.training import run_directory

SMALL = (
    *("--dataset=image_folder", "--image_size=32", "--batch_size=4", "--decoder_channels=4"),
    *("--steps=1", "--masked_steps=present", "--classifier=small_resnet"),
    "--classifier_weights=two.weights.h5",
)


def train(root, *arguments, tree="tree"):
    where = (f"--image_dir={tree}", "--data_dir=data", "--run_dir=run")
    return programs.call("casm_tf.train", *SMALL, *where, *arguments, eager=True, cwd=root)


@pytest.fixture(scope="module")
def finished(made_once):
    """A folder with a tree, its prepared data and a finished run, all named relative to it."""

    def make(folder):
        write_tree(folder / "tree", count=3)
        networks.classifier("small_resnet", 32, 2).save_weights(folder / "two.weights.h5")
        done = train(folder)
        assert done.returncode == 0, done.stderr

    return made_once("trained on pictures", make)


@pytest.fixture
def root(finished, tmp_path):
    """A copy of it, which knows nothing of where it was copied from."""
    root = shutil.copytree(finished, tmp_path / "root", symlinks=True)
    path = root / "run" / "run.json"
    path.write_text(path.read_text().replace(str(finished), str(root)))
    return root


def _renamed(root):
    for split in ("train", "val"):
        (root / "tree" / split / "cat").rename(root / "tree" / split / "zebra")


def _added_class(root):
    write(root / "tree" / "train" / "lion" / "0.png")


def _replaced(root):
    path = root / "tree" / "val" / "dog" / "dog_val_1.JPEG"
    write(path, picture(9, 41, 59))


def _added(root):
    write(root / "tree" / "train" / "dog" / "new.png")


def _deleted(root):
    (root / "tree" / "train" / "dog" / "dog_train_1.JPEG").unlink()


def _moved_between_splits(root):
    name = "dog/dog_train_1.JPEG"
    (root / "tree" / "train" / name).rename(root / "tree" / "val" / name)


def _another_tree(root):
    (root / "tree").rename(root / "old")
    write_tree(root / "elsewhere", count=3)
    write(root / "elsewhere" / "train" / "cat" / "cat_train_0.JPEG", picture(7, 40, 60))
    (root / "tree").symlink_to(root / "elsewhere")


OTHER_DATA = {
    _renamed: "on 2 classes; found 2: gone are cat, new are zebra",
    _added_class: "on 2 classes; found 3: gone are none, new are lion",
    _replaced: "on other data, with validation: 6 pictures of SHA-256 ",
    _added: "on other data, with train: 6 pictures of SHA-256 ",
    _deleted: "; found 5 pictures of SHA-256 ",
    _moved_between_splits: "; found 5 pictures of SHA-256 ",
    _another_tree: "on other data, with train: 6 pictures of SHA-256 ",
}


@pytest.mark.parametrize("change", OTHER_DATA, ids=lambda change: change.__name__)
def test_a_run_is_of_its_data_alone(change, root):
    change(root)
    given = {"image_dir": root / "tree", "image_size": 32}
    found = datasets.open_dataset("image_folder", root / "data", **given)
    with pytest.raises(ValueError) as refused:
        run_directory.check_same_data(root / "run", found.description())
    assert OTHER_DATA[change] in str(refused.value)


def test_a_run_is_not_resumed_or_scored_on_other_data(root):
    before = (root / "run" / "run.json").read_text()
    _renamed(root)
    programs.assert_refused(train(root), "--run_dir: run holds a run on 2 classes", lines=None)
    tried = {"evaluator": ["--output_dir=o"], "infra_validator": ["--model=o", "--blessing=o"]}
    for name, outputs in tried.items():
        done = programs.call(f"components.{name}", "--run_dir=run", *outputs, cwd=root)
        programs.assert_refused(done, "--run_dir: run holds a run on 2 classes")
    assert not (root / "o").exists()
    assert (root / "run" / "run.json").read_text() == before


def test_the_same_pictures_elsewhere_are_the_runs_own(root, tmp_path):
    (root / "tree").rename(root / "moved")
    for path in (root / "moved").rglob("*.JPEG"):
        path.touch()
    (root / "both.txt").write_text("dog\ncat\n")
    # With boxes that were drawn after the training.
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\nval/cat/cat_val_0.JPEG,4,4,30,30\n")
    done = train(root, "--boxes=boxes.csv", "--classes=both.txt", tree="moved")
    assert done.returncode == 0 and "all 1 steps are done" in done.stdout, done.stderr
    flags = json.loads((root / "run" / "run.json").read_text())["flags"]
    assert flags["image_dir"] == str(root / "moved") and flags["data_dir"] == str(root / "data")
    # From another folder.
    given = (f"--run_dir={root / 'run'}", "--compared=full_image")
    done = programs.call("components.evaluator", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((root / "run" / "evaluation.json").read_text())
    assert "LE" in results["casm"]
    # What stands in for a test split is told by its name.
    assert results["split"] == "validation" and "scoring validation" in done.stderr
    assert "6 images of the split validation; its data have no test to be scored\n" in done.stdout
    assert "split validation" in (root / "run" / "report.html").read_text()


def test_a_run_on_some_classes_needs_no_list_of_them(tmp_path):
    write_tree(tmp_path / "tree", classes=("cat", "dog", "lion"), count=1)
    settings = {"dataset": "image_folder", "image_dir": tmp_path / "tree", "image_size": 32}
    settings |= {"data_dir": tmp_path / "data", "classes": "gone.txt", "classifier": "small_resnet"}
    settings = {
        name: str(value) if name.endswith("dir") else value for name, value in settings.items()
    }
    whole = input_pipeline.of_all_classes(settings)
    chosen = datasets.of_labels(whole, ["dog", "lion"])
    run_directory.describe(tmp_path / "run", settings, chosen.description())
    found = run_directory.dataset_of(tmp_path / "run")
    assert (found.labels, found.classes) == (("dog", "lion"), (1, 2))


@pytest.mark.parametrize("change", [{"flags": None}, {"data": "x"}, {"mean": None}])
def test_what_is_no_description_of_a_run_is_refused(change, tmp_path):
    whole = {"flags": {}, "labels": [], "mean": [], "std": [], "data": {}}
    (tmp_path / "run.json").write_text(json.dumps(whole))
    assert run_directory.read(tmp_path) == whole
    (tmp_path / "run.json").write_text(json.dumps(whole | change))
    with pytest.raises(ValueError, match=r"run\.json does not say what data"):
        run_directory.read(tmp_path)


def test_a_push_has_the_labels_and_the_normalisation_of_the_training(root, tmp_path):
    run = json.loads((root / "run" / "run.json").read_text())
    _renamed(root)
    shutil.rmtree(root / "data")
    given = (f"--run_dir={root / 'run'}", f"--serving_dir={tmp_path / 'serving'}")
    done = programs.call("components.pusher", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "serving").rglob("casm.json")
    pushed = json.loads(path.read_text())
    assert pushed["labels"] == run["labels"] == ["cat", "dog"]
    assert (pushed["mean"], pushed["std"]) == (run["mean"], run["std"])


def test_a_run_older_than_a_flag_has_its_default(tmp_path):
    data = {"labels": ["cat"], "mean": [0.0], "std": [1.0], "data": {}}
    run_directory.describe(tmp_path, {"steps": 3}, data)
    defaults = {"steps": 1, "fill": "mean"}
    run_directory.check_same(tmp_path, {"steps": 3, "fill": "mean"}, (), defaults)
    with pytest.raises(ValueError, match="holds a run with --fill=mean; found noise"):
        run_directory.check_same(tmp_path, {"steps": 3, "fill": "noise"}, (), defaults)
