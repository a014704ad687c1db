"""The evaluator on a finished run: scores, a comparison, a report, and what is refused."""

import json
import shutil

import keras
import pytest
from programs import assert_refused, call

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)


def test_evaluator_scores_compares_and_draws(finished_run, tiny_data_dir, tmp_path):
    run_dir, other = (shutil.copytree(finished_run, tmp_path / name) for name in ("run", "twin"))
    done = call(
        *("components.evaluator", f"--run_dir={run_dir}", f"--data_dir={tiny_data_dir}"),
        *(f"--runs={other}", f"--classifiers={run_dir / 'model.keras'}", "--perturbation_steps=2"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "evaluation.json").read_text())
    assert results.pop("protocol") == "centre_crop"
    maps = {"cam", "grad_cam", "gradient", "smooth_gradient"}
    assert set(results) == {"casm", "twin", "full_image", "centre_box"} | maps
    keys = {"OM", "LE", "F1", "top1", "top1_masked_in", "top1_masked_out", "PxAP", "MaxBoxAcc"}
    keys |= {"mask_mean", "mask_std", "mask_entropy", "mask_tv", "MaxBoxAccV2", "pointing_game"}
    keys |= {"insertion", "deletion"}
    assert "top1_before" in results["casm"]
    beside = json.loads((run_dir / "comparison.json").read_text())
    for name, values in results.items():
        assert keys <= set(values)
        assert all(0 <= value <= 1 for value in values.values())
        # The run's own classifier looks at the masks as one of the others too.
        for view in ("top1", "top1_masked_in", "top1_masked_out"):
            observed = beside[name]["classifiers"]["model"][view]
            assert observed == pytest.approx(values[view], abs=1e-6)
        assert beside[name]["seconds_per_image"] > 0
    same = {key for key in keys if results["casm"][key] != results["twin"][key]}
    assert not same  # a copy of the run has the same scores
    full = results["full_image"]
    assert full["mask_mean"] == 1
    assert full["top1"] == full["top1_masked_in"]
    assert beside["full_image"]["forward_passes"] == 0
    page = (run_dir / "report.html").read_text()
    for name in ("CASM", "twin", "smooth gradient", "Insertion", "Deletion"):
        assert name in page
    assert "PxAP" in done.stdout


@pytest.mark.parametrize(
    ("flag", "found"),
    [
        ("--compared=cam,gradcam", "--compared: expected some of full_image"),
        ("--runs=nothing", "--runs:"),
        ("--classifiers=small_resnet", "--classifiers: expected ARCHITECTURE:FILE"),
        ("--perturbation_steps=1025", "--perturbation_steps: expected at most one a pixel, 1024"),
        ("--classifiers=small_resnet:none.weights.h5", "--classifiers: there is no file none"),
    ],
)
def test_evaluator_refuses_what_it_cannot_compare_with(
    flag, found, finished_run, tiny_data_dir, tmp_path
):
    output = tmp_path / "refused"
    done = call(
        *("components.evaluator", f"--run_dir={finished_run}", f"--data_dir={tiny_data_dir}"),
        *(f"--output_dir={output}", flag),
    )
    assert_refused(done, found)
    assert not output.exists()


def test_evaluator_refuses_masks_that_are_no_numbers(finished_run, tiny_data_dir, tmp_path):
    broken = shutil.copytree(finished_run, tmp_path / "broken")
    model = keras.models.load_model(broken / "model.keras", compile=False)
    layer = model.get_layer("decoder").get_layer("final")
    layer.bias.assign(layer.bias * float("nan"))
    model.save(broken / "model.keras")
    done = call("components.evaluator", f"--run_dir={broken}", f"--data_dir={tiny_data_dir}")
    assert_refused(done, "--run_dir: a mask's values are in [0, 1]; found", lines=None)
    assert not [name for name in ("evaluation.json", "report.html") if (broken / name).exists()]


def test_evaluator_refuses_a_directory_without_a_run(tmp_path):
    assert_refused(call("components.evaluator", f"--run_dir={tmp_path}"), "--run_dir:")


def test_evaluator_names_a_data_file_that_is_damaged_in_its_right_length(
    finished_run, tiny_data_dir, tmp_path
):
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("*test.tfrecord*")
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)
    where = (f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'results'}")
    done = call("components.evaluator", f"--run_dir={finished_run}", *where)
    assert_refused(done, f"--data_dir: {path} is damaged: ", lines=None)
    assert not (tmp_path / "results").exists()
