"""The evaluator on a finished run: scores, a comparison, a report, and what is refused."""

import json
import pathlib
import shutil

import keras
import pytest
from programs import assert_refused, call

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)
from casm_tf.training import run_directory


def test_evaluator_scores_compares_and_draws(finished_run, tiny_data_dir, tmp_path):
    run_dir, other = (shutil.copytree(finished_run, tmp_path / name) for name in ("run", "twin"))
    done = call(
        *("components.evaluator", f"--run_dir={run_dir}", f"--data_dir={tiny_data_dir}"),
        *(f"--runs={other}", f"--classifiers={run_dir / 'model.keras'}", "--perturbation_steps=2"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "evaluation.json").read_text())
    assert results.pop("protocol") == "centre_crop"
    assert results.pop("split") == "test" and "32 images of the split test\n" in done.stdout
    maps = {"cam", "grad_cam", "gradient", "smooth_gradient"}
    assert set(results) == {"casm", "twin", "full_image", "centre_box"} | maps
    keys = {"OM", "LE", "F1", "top1", "top1_masked_in", "top1_masked_out", "PxAP", "MaxBoxAcc"}
    keys |= {"mask_mean", "mask_std", "mask_entropy", "mask_tv", "MaxBoxAccV2", "pointing_game"}
    keys |= {"insertion", "deletion", "MAE", "maxF", "S", "E", "IoU", "pixel_accuracy"}
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
        # The pictures are few.
        means = keys - {"MaxBoxAcc", "MaxBoxAccV2", "PxAP", "maxF", "mask_std"}
        assert means <= beside[name]["standard_error"].keys()
    zeros = beside["twin"]["standard_error_of_difference"]
    assert means <= zeros.keys() and not any(zeros.values())
    assert "± the standard error, as the pictures are few\n" in done.stdout
    same = {key for key in keys if results["casm"][key] != results["twin"][key]}
    assert not same  # a copy of the run has the same scores
    full = results["full_image"]
    assert full["mask_mean"] == 1
    assert full["top1"] == full["top1_masked_in"]
    assert beside["full_image"]["forward_passes"] == 0
    page = (run_dir / "report.html").read_text()
    assert "<title>Masks of digit_scenes/tiny, split test: 32 pictures</title>" in page
    assert "lambda_size 3.333" in page and "None" not in page
    assert "<circle" in page  # the full image's point of precision and recall
    assert 0 < results["casm"]["true_box_area"] < 1
    for name in ("CASM", "twin", "SmoothGrad", "Insertion", "Deletion"):
        assert name in page
    (head,) = (line for line in done.stdout.splitlines() if "PxAP" in line and "LE" in line)
    assert "PxAP MAE maxF S E IoU pixels in" in " ".join(head.split())
    assert all(f"<dt>{title}</dt>" in page for title in ("MAE", "maximal F", "S-measure", "IoU"))


def test_one_image_in_so_many_is_scored_beside_the_shipped_model(
    finished_run, tiny_data_dir, tmp_path
):
    done = call(
        *("components.evaluator", f"--run_dir={finished_run}", f"--data_dir={tiny_data_dir}"),
        *(f"--output_dir={tmp_path}", "--every=10", "--compared=full_image", "--runs=pretrained"),
    )
    assert "4 images of the split test, one image in 10\n" in done.stdout, done.stderr
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert results.pop("split").endswith("in 10") and results.pop("protocol")
    assert list(results) == ["casm", "pretrained", "full_image"]
    assert set(results["pretrained"]) == set(results["full_image"])
    assert results["pretrained"]["top1"] == results["casm"]["top1"]  # of the run's classifier
    assert 0 < results["pretrained"]["mask_mean"] < 1
    assert "the model for photographs that comes" in (tmp_path / "report.html").read_text()


def test_data_are_called_by_what_is_in_them():
    folder = {"dataset": "image_folder", "image_dir": "/photos/raccoons/"}
    assert run_directory.data_name(folder) == "raccoons (image_folder)"
    assert run_directory.data_name({"dataset": "voc/2007", "image_dir": None}) == "voc/2007"
    assert run_directory.data_name({"dataset": "image_folder", "image_dir": None}) == "image_folder"


def test_a_run_tells_what_was_in_force_and_not_what_was_left_open():
    flags = {"thinning": "F", "score": "entropy", "classifier": "resnet18", "seed": 0}
    flags |= {"lambda_size": None, "steps": None, "epochs": 12.0}
    run = {"flags": flags, "labels": ["cat"] * 1000}
    expected = (
        "thinning F, score entropy, classifier resnet18, seed 0, lambda_size 2.5, epochs 12.0"
    )
    assert run_directory.trained_by(run) == expected
    flags |= {"lambda_size": 7.0, "steps": 60, "first_lambda_size": 0.5, "first_lambda_steps": 30}
    expected = "lambda_size 7 (0.5 for the first 30 steps), steps 60"
    assert run_directory.trained_by(run).endswith(f"seed 0, {expected}")
    flags |= {"mask_size": 0.3, "masked_in_weight": 0.5, "fill": "noise", "levels": 2}
    flags |= {"aligned": False, "critics": []}
    expected = "mask_size 0.3, masked_in_weight 0.5, fill noise, levels 2, steps 60"
    assert run_directory.trained_by(run).endswith(f"seed 0, {expected}")


def test_other_runs_have_names_that_tell_them_apart():
    # By the folder, but where that is a number, another's name, or a method's.
    paths = ["runs/f", "Trainer/model_run/2", "runs/casm", "a/g", "b/g/"]
    names = run_directory.names(paths, taken={"casm"})
    assert names == dict(zip(["f", *paths[1:]], paths, strict=True))
    both = ["pretrained", "./pretrained"]  # the shipped model, and a folder
    assert run_directory.names(both, taken={"pretrained"}) == dict(zip(both, both, strict=True))
    assert run_directory.names(["."], taken=()) == {pathlib.Path.cwd().name: "."}


@pytest.mark.parametrize(
    ("flag", "found"),
    [
        ("--compared=cam,gradcam", "--compared: expected some of full_image"),
        ("--runs=nothing", "--runs:"),
        ("--runs=./pretrained", "--runs: there is no run in ./pretrained"),
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
