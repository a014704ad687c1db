"""The pusher, as a program."""

import json

import exports
import programs
import pytest

from casm_tf.data import datasets


@pytest.fixture
def run_dir(tiny_data_dir, tmp_path):
    """What the pusher reads of a run, with an untrained model."""
    directory = tmp_path / "run"
    directory.mkdir()
    # Neither the data set nor its folder is looked at.
    settings = {"dataset": "digit_scenes/tiny", "data_dir": "nowhere"}
    data = datasets.open_dataset("digit_scenes/tiny", str(tiny_data_dir)).description()
    (directory / "run.json").write_text(json.dumps({"flags": settings, "versions": {}, **data}))
    (directory / "evaluation.json").write_text('{"protocol": "squash", "casm": {"LE": 0.5}}')
    exports.tiny_model(classes=10).save(directory / "model.keras")
    return directory


def push(run_dir, *arguments):
    return programs.call("components.pusher", f"--run_dir={run_dir}", *arguments)


def test_pusher_exports_and_says_how_to_go_on(run_dir, tiny_data_dir, tmp_path):
    done = push(run_dir, f"--serving_dir={tmp_path / 'serving'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    path = tmp_path / "serving" / "casm" / "1"
    assert (path / "saved_model.pb").exists()
    description = json.loads((path / "assets.extra" / "casm.json").read_text())
    dataset = datasets.open_dataset("digit_scenes/tiny", str(tiny_data_dir))
    assert description["labels"] == list(dataset.labels)
    assert (description["mean"], description["std"]) == (list(dataset.mean), list(dataset.std))
    assert description["metrics"] == {"LE": 0.5}
    assert description["trained_on"] == "digit_scenes/tiny"
    for expected in (f"made  {path}: ", "docker run ", "models.config", "curl ", "extract"):
        assert expected in done.stdout


def test_a_version_of_other_classes_than_the_one_before_is_told_of(run_dir, tmp_path):
    serving = tmp_path / "serving"
    for number, other in ((1, None), (2, "zebra")):
        if other:
            run = json.loads((run_dir / "run.json").read_text())
            run["labels"][0] = other
            (run_dir / "run.json").write_text(json.dumps(run))
        done = push(run_dir, f"--serving_dir={serving}")
        assert f"made  {serving / 'casm' / str(number)}: " in done.stdout
        told = "note  the version before it knows other classes (0, 1, 2, ...): " in done.stdout
        assert told == (other is not None)


def test_nothing_but_a_link_gives_way_to_the_link(run_dir, tmp_path):
    for path in (run_dir, "/dev/null/link"):
        done = push(run_dir, f"--serving_dir={tmp_path / 'serving'}", f"--pushed_model={path}")
        programs.assert_refused(
            done, f"--pushed_model: {path if path == run_dir else '/dev/null'} is "
        )
    assert not (tmp_path / "serving").exists()


NO_RUNS = {
    "run.json": "there is no run in {}\n",
    "model.keras": "the run in {} is not finished; the same train command resumes it\n",
}


@pytest.mark.parametrize("gone", NO_RUNS)
def test_a_directory_without_a_finished_run_is_refused(gone, run_dir, tmp_path):
    (run_dir / "model.keras").unlink()
    (run_dir / gone).unlink(missing_ok=True)
    given = {"pusher": "serving_dir", "evaluator": "output_dir", "infra_validator": "model"}
    for name, flag in given.items():
        beside = ["--blessing=b"] if name == "infra_validator" else []
        output = f"--{flag}={tmp_path / 'output'}"
        done = programs.call(f"components.{name}", f"--run_dir={run_dir}", output, *beside)
        programs.assert_refused(done, f"{name}: --run_dir: {NO_RUNS[gone].format(run_dir)}")
        assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"flags": {}, "labels": ["cat", "dog"]}'])
def test_a_run_that_does_not_say_on_what_it_was_trained_is_refused(text, run_dir, tmp_path):
    (run_dir / "run.json").write_text(text)
    done = push(run_dir, f"--serving_dir={tmp_path / 'serving'}")
    programs.assert_refused(done, f"--run_dir: {run_dir / 'run.json'}")
