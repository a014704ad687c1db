"""The programs themselves, as processes, on 32x32 scenes."""

import json
import shutil

import keras
import pytest
import tensorflow as tf
from programs import ROOT, call, fork, run_module

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)

SMALL = (
    "--dataset=digit_scenes/tiny",
    "--classifier=small_resnet",
    "--decoder_channels=4",
    "--batch_size=16",
    "--pretraining_steps=4",
    "--steps=6",
    "--decay_every=4",
    "--thinning=L2",
    "--masked_steps=present",
    "--snapshots=2",
    "--checkpoint_every=3",
    "--validate_every=3",
)


@pytest.fixture(scope="module")
def run_dir(tiny_data_dir, tmp_path_factory):
    """A run of the train program that is finished."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    done = call("casm_tf.train", *SMALL, f"--data_dir={tiny_data_dir}", f"--run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    return run_dir


def test_train_leaves_a_whole_run(run_dir):
    run = json.loads((run_dir / "run.json").read_text())
    assert run["flags"]["thinning"] == "L2"
    assert run["versions"]["casm_tf"]
    for name in ("model.keras", "classifier.weights.h5", "masks/checkpoints/ckpt-6"):
        assert (run_dir / name).exists()
    assert not list(run_dir.rglob(".unfinished*"))


@pytest.mark.parametrize(
    "options",
    [
        ("--precision=mixed_bfloat16", "--noshared_encoder", "--decay_every=9"),
        pytest.param(
            ("--xla", "--snapshot_precision=bfloat16"),
            marks=pytest.mark.long,  # XLA compiles for a minute
        ),
    ],
    ids=["mixed precision, no decay", "xla, snapshots in bfloat16"],
)
def test_other_ways_to_compute_train_to_the_end(options, tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    done = call("casm_tf.train", *SMALL, *where, *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.keras").exists()


def train_on_two_devices(*arguments):
    """The program where MirroredStrategy finds two devices: logical CPUs in the place of GPUs."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    run_module("casm_tf.train", *arguments)


def test_the_program_trains_on_two_devices_to_the_end(tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    # 32 validation images make two batches of 12 and one of 8, of which a replica has 2.
    options = ("--strategy=mirrored", "--batch_size=12")
    done = fork(train_on_two_devices, *SMALL, *where, *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.keras").exists()


def test_events_can_be_read_back(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "masks")).Reload()
    tags = events.Tags()["tensors"]
    expected = {
        *("training/classifier_loss", "training/score", "training/evidence", "training/size"),
        *("training/accuracy", "training/accuracy_masked_out", "training/mask_mean"),
        *("training/mask_entropy", "training/mask_tv"),
        *("learning_rate/classifier", "learning_rate/decoder", "training/snapshots"),
        *("validation/accuracy", "speed/images_per_second", "masks"),
    }
    assert expected <= set(tags)
    assert [event.step for event in events.Tensors("masks")] == [3, 6]


def test_the_same_command_goes_on_and_other_flags_are_refused(run_dir, tiny_data_dir, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(run_dir, again)
    (again / "model.keras").unlink()
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={again}")
    done = call("casm_tf.train", *SMALL, *where)
    assert done.returncode == 0, done.stderr
    assert "all 6 steps are done" in done.stdout
    assert (again / "model.keras").exists()
    refused = call("casm_tf.train", *SMALL, *where, "--score=classification")
    assert refused.returncode == 2
    assert "--score=entropy; found classification" in refused.stderr


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(run_dir, tiny_data_dir, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(run_dir, killed)
    (killed / "model.keras").unlink()
    # As it was when it was killed after the first of its two checkpoints.
    checkpoints = killed / "masks" / "checkpoints"
    shutil.rmtree(checkpoints / "ckpt-6")
    done = call("casm_tf.train", *SMALL, f"--data_dir={tiny_data_dir}", f"--run_dir={killed}")
    assert done.returncode == 0, done.stderr
    straight, resumed = (
        keras.models.load_model(path / "model.keras", compile=False) for path in (run_dir, killed)
    )
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_evaluator_scores_compares_and_draws(run_dir, tiny_data_dir, tmp_path):
    other = shutil.copytree(run_dir, tmp_path / "twin")
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
        ("--classifiers=small_resnet:none.weights.h5", "--classifiers: there is no file none"),
    ],
)
def test_evaluator_refuses_what_it_cannot_compare_with(flag, found, run_dir, tiny_data_dir):
    output = run_dir.parent / "refused"
    done = call(
        *("components.evaluator", f"--run_dir={run_dir}", f"--data_dir={tiny_data_dir}"),
        *(f"--output_dir={output}", flag),
    )
    _assert_refused(done, found)
    assert not output.exists()


def test_evaluator_refuses_masks_that_are_no_numbers(run_dir, tiny_data_dir, tmp_path):
    broken = shutil.copytree(run_dir, tmp_path / "broken")
    for name in ("evaluation.json", "report.html", "figure.png"):
        (broken / name).unlink(missing_ok=True)
    model = keras.models.load_model(broken / "model.keras", compile=False)
    layer = model.get_layer("decoder").get_layer("final")
    layer.bias.assign(layer.bias * float("nan"))
    model.save(broken / "model.keras")
    done = call("components.evaluator", f"--run_dir={broken}", f"--data_dir={tiny_data_dir}")
    _assert_refused(done, "--run_dir: a mask's values are in [0, 1]; found", lines=None)
    assert not [name for name in ("evaluation.json", "report.html") if (broken / name).exists()]


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.flags")), ids=lambda path: path.stem)
def test_every_flagfile_is_understood_and_says_what_to_expect(path):
    takes_it, last = "casm_tf.train", "--run_dir"
    if path.stem == "pipeline":
        takes_it, last = "components.pipeline", "--pipeline_root"
    # Refused for the last flag, after all others were parsed.
    done = call(takes_it, f"--flagfile={path}", f"{last}=/dev/null/run")
    _assert_refused(done, f"{last}: ")
    head = path.read_text().split("\n--")[0]
    assert f"--flagfile=configs/{path.name}" in head
    assert "# Expected: " in head


MISTAKES = {
    "an unknown data set": ("--dataset=digit_scene", "--dataset: TFDS knows no data set"),
    "an unknown config": ("--dataset=digit_scenes/huge", "--dataset: TFDS knows no data set"),
    "a data set in grey": ("--dataset=mnist", "'mnist' is no data set of pictures in colour"),
    "no folder of pictures": ("--dataset=image_folder", "--dataset: image_folder needs"),
    "a folder for another": ("--image_dir=.", "--image_dir: an image_dir and masks are for"),
    "a missing folder": ("--dataset=image_folder --image_dir=a", "--image_dir: there is no a"),
    "too many classes": ("--classes=5-10", "--classes: expected two or more of 10 classes"),
    "a missing list of classes": ("--classes=a", "--classes: "),
    "no boxes by name": ("--boxes=.", "does not give its files' names"),
    "a missing weights file": ("--classifier_weights=no.weights.h5", "--classifier_weights:"),
    "a negative lambda": ("--lambda_size=-1", "lambda_size"),
    "a batch of no images": ("--batch_size=0", "batch_size"),
    "a batch larger than the data": ("--batch_size=129", "--batch_size: 129 of 128"),
    "an unknown thinning": ("--thinning=L0", "--thinning: thinning is F, L, FL or L<n>"),
    "an unknown score": ("--score=loss", "score"),
    "steps without a loss": ("--classifier_form=masked", "--classifier_form: 'masked' needs"),
    "an unknown flag": ("--lamda_size=1", "lamda_size"),
    "an argument": ("casm.flags", "takes flags only; found 'casm.flags'"),
    "a directory that cannot be": ("--run_dir=/dev/null/run", "--run_dir: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_and_leaves_nothing(mistake, tiny_data_dir, tmp_path):
    argument, expected = MISTAKES[mistake]
    run_dir = tmp_path / "run"
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={run_dir}")
    _assert_refused(call("casm_tf.train", *SMALL, *where, *argument.split()), expected)
    assert not run_dir.exists()


def test_weights_that_do_not_fit_are_refused(run_dir, tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    weights = f"--classifier_weights={run_dir / 'classifier.weights.h5'}"
    done = call("casm_tf.train", *SMALL, *where, weights, "--classifier=resnet18")
    _assert_refused(done, "--classifier_weights:")
    (tmp_path / "text.weights.h5").write_text("not weights")
    weights = f"--classifier_weights={tmp_path / 'text.weights.h5'}"
    _assert_refused(call("casm_tf.train", *SMALL, *where, weights), "--classifier_weights:")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("harm", ["cut off", "missing file", "no description", "cut description"])
def test_data_cut_off_half_way_is_refused(harm, tiny_data_dir, tmp_path):
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    directory = next((tmp_path / "data").rglob("dataset_info.json")).parent
    description, records = directory / "dataset_info.json", next(directory.glob("*train*"))
    if harm == "cut off":
        records.write_bytes(records.read_bytes()[:1000])
    elif harm == "missing file":
        records.unlink()
    elif harm == "no description":
        description.unlink()
    else:
        description.write_text(description.read_text()[:300])
    where = (f"--data_dir={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}")
    _assert_refused(call("casm_tf.train", *SMALL, *where), "--dataset:")
    assert not (tmp_path / "run").exists()


def test_evaluator_refuses_a_directory_without_a_run(tmp_path):
    _assert_refused(call("components.evaluator", f"--run_dir={tmp_path}"), "--run_dir:")


def _assert_refused(done, expected, lines=1):
    """One line on standard error; with `lines` None it may stand below a progress bar."""
    assert done.returncode == 2, done.stderr
    assert lines is None or done.stderr.count("\n") == lines, done.stderr
    assert "Traceback" not in done.stderr
    assert expected in done.stderr


def test_evaluator_names_a_data_file_that_is_damaged_in_its_right_length(
    run_dir, tiny_data_dir, tmp_path
):
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("*test.tfrecord*")
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)
    where = (f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'results'}")
    done = call("components.evaluator", f"--run_dir={run_dir}", *where)
    _assert_refused(done, f"--data_dir: {path} is damaged: ", lines=None)
    assert not (tmp_path / "results").exists()
