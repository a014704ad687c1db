"""The programs themselves, as processes, on 32x32 scenes."""

import json
import os
import re
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from programs import ROOT, SMALL, assert_refused, call, command, fork, run, run_module
from trees import write

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)


def test_train_leaves_a_whole_run(finished_run):
    run = json.loads((finished_run / "run.json").read_text())
    assert run["flags"]["thinning"] == "L2"
    assert run["versions"]["casm_tf"]
    for name in ("model.keras", "classifier.weights.h5", "masks/checkpoints/ckpt-6"):
        assert (finished_run / name).exists()
    assert not list(finished_run.rglob(".unfinished*"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "eager"),
    [
        (("--precision=mixed_bfloat16", "--noshared_encoder", "--decay_every=9"), True),
        (("--xla", "--snapshot_precision=bfloat16"), False),  # XLA compiles for a minute
    ],
    ids=["mixed precision, no decay", "xla, snapshots in bfloat16"],
)
def test_other_ways_to_compute_train_to_the_end(options, eager, tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    done = call("casm_tf.train", *SMALL, *where, *options, eager=eager)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.keras").exists()


def train_on_two_devices(*arguments):
    """The program where MirroredStrategy finds two devices: logical CPUs in the place of GPUs."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    run_module("casm_tf.train", *arguments)


@pytest.mark.long
def test_the_program_trains_on_two_devices_to_the_end(finished_run, tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    # 32 validation images make two batches of 12 and one of 8, of which a replica has 2.
    options = ("--strategy=mirrored", "--batch_size=12", "--steps=2", "--validate_every=2")
    # The pretraining has a step of its own, which takes long to trace.
    options += (f"--classifier_weights={finished_run / 'classifier.weights.h5'}",)
    done = fork(train_on_two_devices, *SMALL, *where, *options, eager=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.keras").exists()


def test_xla_on_two_cpus_is_refused(tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    done = fork(train_on_two_devices, *SMALL, *where, "--strategy=mirrored", "--xla")
    assert_refused(done, "--xla: on CPUs it takes one device; found 2")
    assert not (tmp_path / "run").exists()


def test_events_can_be_read_back(finished_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished_run / "masks")).Reload()
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
    described = {tag: events.SummaryMetadata(tag).summary_description for tag in tags}
    assert [tag for tag, text in described.items() if not text] == []


def test_the_same_command_goes_on_and_other_flags_are_refused(
    finished_run, tiny_data_dir, tmp_path
):
    again = tmp_path / "again"
    shutil.copytree(finished_run, again)
    (again / "model.keras").unlink()
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={again}")
    done = call("casm_tf.train", *SMALL, *where, env={"CUDA_VISIBLE_DEVICES": "0"})
    assert done.returncode == 0, done.stderr
    assert re.search("^devices  CPU .* float32; no GPU .*cuInit", done.stdout, re.MULTILINE)
    assert "all 6 steps are done" in done.stdout
    assert (again / "model.keras").exists()
    refused = call("casm_tf.train", *SMALL, *where, "--score=classification")
    assert refused.returncode == 2
    assert "--score=entropy; found classification" in refused.stderr


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not_to_the_bit(
    finished_run, tiny_data_dir, tmp_path
):
    killed = tmp_path / "killed"
    shutil.copytree(finished_run, killed)
    (killed / "model.keras").unlink()
    # As it was when it was killed after the first of its two checkpoints.
    checkpoints = killed / "masks" / "checkpoints"
    shutil.rmtree(checkpoints / "ckpt-6")
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={killed}")
    done = call("casm_tf.train", *SMALL, *where, eager=True)
    assert done.returncode == 0, done.stderr
    straight, resumed = (
        keras.models.load_model(path / "model.keras", compile=False)
        for path in (finished_run, killed)
    )
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.flags")), ids=lambda path: path.stem)
def test_every_flagfile_is_understood_and_says_what_to_expect(path):
    takes_it, last = "casm_tf.train", "--run_dir"
    if path.stem == "pipeline":
        takes_it, last = "components.pipeline", "--pipeline_root"
    others = ()
    if path.stem in ("sharpen", "own_pictures"):
        takes_it, others = "casm_tf.sharpen", ("--image_dir=.",)
    # Refused for the last flag, after all others were parsed.
    done = call(takes_it, f"--flagfile={path}", f"{last}=/dev/null/run", *others)
    assert_refused(done, f"{last}: ")
    head = path.read_text().split("\n--")[0]
    assert f"--flagfile=configs/{path.name}" in head
    assert "# Expected: " in head


MISTAKES = {
    "an unknown data set": ("--dataset=digit_scene", "--dataset: TFDS knows no data set"),
    "a slip in a name": (
        "--dataset=image_foldr --image_dir=.",
        "--dataset: TFDS knows no data set 'image_foldr'; did you mean image_folder?",
    ),
    "an unknown config": ("--dataset=digit_scenes/huge", "--dataset: TFDS knows no data set"),
    "a data set in grey": ("--dataset=mnist", "'mnist' is no data set of pictures in colour"),
    "no folder of pictures": ("--dataset=image_folder", "--dataset: image_folder needs"),
    "a folder for another": ("--image_dir=.", "--image_dir: an image_dir and masks are for"),
    "a missing folder": ("--dataset=image_folder --image_dir=a", "--image_dir: there is no a"),
    "a file for a folder": (
        "--dataset=image_folder --image_dir=/dev/null",
        "--image_dir: /dev/null: expected a folder",
    ),
    "too many classes": ("--classes=5-10", "--classes: expected two or more of 10 classes"),
    "a missing list of classes": ("--classes=a", "--classes: "),
    "endless classes": (f"--classes=0-{10**20}", "--classes: expected two or more of 10 classes"),
    "a name without a value": ("--classes=", "flag --classes=: expected a value"),
    "steps in words": ("--steps=ten", "flag --steps=ten: expected a whole number\n"),
    "no whole number": ("--snapshots=", "flag --snapshots=: expected a whole number\n"),
    "a weight in words": ("--lambda_size=a", "flag --lambda_size=a: expected a number\n"),
    "neither yes nor no": ("--flip=maybe", "flag --flip=maybe: expected true or false\n"),
    "no boxes by name": ("--boxes=.", "does not give its files' names"),
    "a missing weights file": ("--classifier_weights=no.weights.h5", "--classifier_weights:"),
    "a negative lambda": ("--lambda_size=-1", "lambda_size"),
    "a batch of no images": ("--batch_size=0", "batch_size"),
    "a batch larger than the data": ("--batch_size=129", "--batch_size: 129 of 128"),
    "an unknown thinning": ("--thinning=L0", "--thinning: thinning is F, L, FL or L<n>"),
    "an unknown score": ("--score=loss", "score"),
    "steps without a loss": ("--classifier_form=masked", "--classifier_form: 'masked' needs"),
    "two rules for lambda": (
        "--mask_size=0.2 --first_lambda_steps=3",
        "--first_lambda_steps: with --mask_size lambda_R moves by itself",
    ),
    "no lambda to begin with": (
        "--mask_size=0.2 --lambda_size=0",
        "--lambda_size: with --mask_size it starts above 0; found 0.0",
    ),
    "maps that do not fit": (
        "--levels=2 --image_size=36",
        "--levels: 36 pixels are no multiple of the finest map's 5",
    ),
    "a critic of no file": (
        "--critics=resnet18",
        "--critics: expected ARCHITECTURE:FILE; found 'resnet18'",
    ),
    "a critic that is not there": (
        "--critics=resnet18:no.weights.h5",
        "--critics: there is no file no.weights.h5",
    ),
    "no other picture": (
        "--fill=shuffle --batch_size=1",
        "--fill: shuffle needs two images a replica; found 1 for 1",
    ),
    "an unknown flag": ("--lamda_size=1", "lamda_size"),
    "an argument": ("casm.flags", "takes flags only; found 'casm.flags'"),
    "a directory that cannot be": ("--run_dir=/dev/null/run", "--run_dir: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_and_leaves_nothing(mistake, tiny_data_dir, tmp_path):
    argument, expected = MISTAKES[mistake]
    run_dir = tmp_path / "run"
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={run_dir}")
    assert_refused(call("casm_tf.train", *SMALL, *where, *argument.split()), expected)
    assert not run_dir.exists()


def test_weights_that_do_not_fit_are_refused(finished_run, tiny_data_dir, tmp_path):
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={tmp_path / 'run'}")
    weights = f"--classifier_weights={finished_run / 'classifier.weights.h5'}"
    done = call("casm_tf.train", *SMALL, *where, weights, "--classifier=resnet18")
    assert_refused(done, "--classifier_weights:")
    (tmp_path / "text.weights.h5").write_text("not weights")
    weights = f"--classifier_weights={tmp_path / 'text.weights.h5'}"
    assert_refused(call("casm_tf.train", *SMALL, *where, weights), "--classifier_weights:")
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
    assert_refused(call("casm_tf.train", *SMALL, *where), "--dataset:")
    assert not (tmp_path / "run").exists()


def help_that_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    run_module("components.lineage", "--help")


def test_who_reads_no_further_is_no_error():
    done = fork(help_that_nobody_reads)  # as before head
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.long
@pytest.mark.parametrize("closed", [1, 2])
def test_extract_works_without_a_terminal(closed, tmp_path):
    write(tmp_path / "a.png")
    given = (tmp_path / "a.png", f"--output={tmp_path / 'masks'}")
    line = shlex.join(command("casm_tf.extract", *given))
    done = run(["sh", "-c", f"{line} {closed}>&-"])
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").iterdir())) == 3
