"""The pusher, as a program."""

import json

import exports
import programs
import pytest

from casm_tf.data import input_pipeline


@pytest.fixture
def run_dir(tiny_data_dir, tmp_path):
    """What the pusher reads of a run, with an untrained model."""
    directory = tmp_path / "run"
    directory.mkdir()
    settings = {"dataset": "digit_scenes/tiny", "data_dir": str(tiny_data_dir)}
    settings["classifier"] = "small_resnet"
    (directory / "run.json").write_text(json.dumps({"flags": settings}))
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
    dataset = input_pipeline.open_dataset("digit_scenes/tiny", str(tiny_data_dir))
    assert description["labels"] == list(dataset.labels)
    assert (description["mean"], description["std"]) == (list(dataset.mean), list(dataset.std))
    assert description["metrics"] == {"LE": 0.5}
    assert description["trained_on"] == "digit_scenes/tiny"
    for expected in (f"made  {path}: ", "docker run ", "models.config", "curl ", "extract"):
        assert expected in done.stdout


@pytest.mark.parametrize("gone", ["run.json", "model.keras"])
def test_pusher_refuses_a_directory_without_a_run(gone, run_dir, tmp_path):
    (run_dir / gone).unlink()
    done = push(run_dir, f"--serving_dir={tmp_path / 'serving'}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pusher: --run_dir: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "serving").exists()
