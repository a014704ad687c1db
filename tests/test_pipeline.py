"""The pipeline as a process, on tiny data: what is executed, what is not, and what goes on."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time

import programs
import pytest
import trees
from programs import ROOT

NAMES = ["ExampleGen", "Trainer", "Evaluator", "InfraValidator", "Pusher"]
STEPS = 6


def command(root, *arguments):
    given = [
        "--example_gen=--dataset=digit_scenes/tiny",
        "--trainer=--flagfile=configs/casm.flags",
        "--trainer=--decoder_channels=4",
        "--trainer=--batch_size=8",
        "--trainer=--pretraining_steps=2",
        f"--trainer=--steps={STEPS}",
        "--trainer=--validate_every=100",
        "--trainer=--checkpoint_every=2",
        "--trainer=--deterministic",
        "--evaluator=--compared=",
        f"--pusher=--serving_dir={root / 'serving'}",
        f"--pipeline_root={root}",
        f"--latest={root / 'latest'}",
    ]
    return programs.command("components.pipeline", *given, *arguments)


def call(root, *arguments):
    return programs.run(command(root, *arguments))


def last(done):
    return json.loads(done.stdout.splitlines()[-1])


def by_lineage(root, path):
    return programs.call("components.lineage", path, f"--pipeline_root={root}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A pipeline's root after one run, and what it said."""
    path = tmp_path_factory.mktemp("pipeline")
    done = call(path)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done


def test_the_chain_makes_every_artefact(root):
    path, done = root
    assert last(done) == {
        "executed": NAMES,
        "cached": [],
        "pushed": str(path / "serving" / "casm" / "1"),
    }
    made = {
        "ExampleGen/examples/1/examples.json",
        "ExampleGen/statistics/1/Split-train/FeatureStats.pb",
        "ExampleGen/schema/1/schema.pbtxt",
        "Trainer/model_run/2/model.keras",
        "Trainer/model_run/2/weights.sha256",
        "Evaluator/evaluation/3/evaluation.json",
        "Evaluator/blessing/3/BLESSED",
        "InfraValidator/model/4/casm/1/saved_model.pb",
        "InfraValidator/blessing/4/INFRA_BLESSED",
        "Pusher/pushed_model/5/saved_model.pb",
        "serving/casm/1/saved_model.pb",
        "latest/model.keras",
        "latest/evaluation.json",
        "latest/figure.png",
    }
    assert {name for name in made if not (path / name).exists()} == set()
    # Through the server's loader, in a process without Keras and without us.
    assert "masks differ from the trained model's by" in done.stdout


def test_statistics_and_schema_say_what_the_data_are(root):
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

    path, _ = root
    examples = json.loads((path / "ExampleGen" / "examples" / "1" / "examples.json").read_text())
    for split, count in examples["images"].items():
        file = path / "ExampleGen" / "statistics" / "1" / f"Split-{split}" / "FeatureStats.pb"
        (found,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(
            file.read_bytes()
        ).datasets
        assert (found.name, found.num_examples) == (split, count)
        features = {feature.path.step[0]: feature for feature in found.features}
        assert set(features) == {"height", "width", "boxes", "label"}
        assert features["boxes"].num_stats.min == features["boxes"].num_stats.max == 1
        labels = features["label"].string_stats
        assert sum(value.frequency for value in labels.top_values) == count
        assert {value.value for value in labels.top_values} == set("0123456789")
    schema = text_format.Parse(
        (path / "ExampleGen" / "schema" / "1" / "schema.pbtxt").read_text(), schema_pb2.Schema()
    )
    (label,) = [feature for feature in schema.feature if feature.name == "label"]
    assert (label.int_domain.min, label.int_domain.max) == (0, 9)


def test_a_second_run_executes_nothing(root):
    path, _ = root
    done = call(path)
    assert done.returncode == 0, done.stderr
    assert last(done) == {
        "executed": [],
        "cached": NAMES,
        "pushed": str(path / "serving" / "casm" / "1"),
    }
    assert "nothing was executed" in done.stdout


@pytest.mark.long
def test_a_changed_flag_reruns_what_follows_once_also_by_two_pipelines(root):
    path, _ = root
    both = [
        subprocess.Popen(
            command(path, "--evaluator=--alpha=2"), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    found = [json.loads(one.communicate()[0].splitlines()[-1]) for one in both]
    assert sorted(name for one in found for name in one["executed"]) == sorted(NAMES[2:])
    assert all(one["cached"][:2] == NAMES[:2] for one in found)
    assert {one["pushed"] for one in found} == {str(path / "serving" / "casm" / "2")}


def test_the_pushed_model_gives_masks(root, tmp_path):
    path, _ = root
    trees.write(tmp_path / "photo.png")
    given = (tmp_path / "photo.png", f"--model={path / 'serving' / 'casm' / '1'}")
    output = f"--output={tmp_path / 'masks'}"
    done = programs.run(programs.command("casm_tf.extract", *given, output))
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["label"] in set("0123456789")
    assert pathlib.Path(line["mask"]).exists()


def test_lineage_leads_from_a_pushed_model_to_the_data(root):
    path, _ = root
    done = by_lineage(path, path / "serving" / "casm" / "1")
    assert done.returncode == 0, done.stderr
    heads = [line.split(",")[0] for line in done.stdout.splitlines() if line[:1].strip()]
    assert heads[0] == "Pusher" and set(heads) == set(NAMES)
    evaluation = json.loads((path / "latest" / "evaluation.json").read_text())
    examples = json.loads((path / "ExampleGen" / "examples" / "1" / "examples.json").read_text())
    for expected in (
        f"LE: {evaluation['casm']['LE']}",
        f"digest: {examples['digest']}",
        f"flag     --steps={STEPS}",
        "tensorflow 2.21",
        f"fingerprint: {(path / 'serving/casm/1/fingerprint.pb').read_bytes().hex()}",
    ):
        assert expected in done.stdout
    done = by_lineage(path, ROOT / "configs")
    assert done.returncode == 2
    assert done.stderr.startswith("lineage: ") and done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_model_that_is_not_good_enough_is_not_pushed(root):
    path, _ = root
    before = sorted((path / "serving" / "casm").iterdir())
    for executed in (["Evaluator"], []):  # the second time it is known
        done = call(path, "--evaluator=--min_top1=1")
        assert done.returncode == 1
        assert last(done) == {
            "executed": executed,
            "cached": NAMES[:2] if executed else NAMES[:3],
            "pushed": None,
        }
        assert "Evaluator did not bless the model: nothing is pushed" in done.stderr
    assert sorted((path / "serving" / "casm").iterdir()) == before


@pytest.mark.long
def test_a_killed_trainer_goes_on_and_the_weights_are_the_same(root, tmp_path):
    """With SIGKILL in the middle of the alternation; the other root's training was straight."""
    process = subprocess.Popen(
        command(tmp_path),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoints = tmp_path / "Trainer" / "model_run" / "2" / "masks" / "checkpoints"
    until = time.monotonic() + 300
    while not (checkpoints / "ckpt-2").exists() and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "Trainer" / "model_run" / "2" / "model.keras").exists()

    done = call(tmp_path)
    assert done.returncode == 0, done.stderr
    assert last(done)["cached"] == ["ExampleGen"]
    assert f"{STEPS}" in done.stderr and "pretraining: all 2 steps" not in done.stderr
    # The same seed in two roots: the same weights, the same evaluation to the last digit.
    path, _ = root
    for name in ("Trainer/model_run/2/weights.sha256", "Evaluator/evaluation/3/evaluation.json"):
        assert (tmp_path / name).read_text() == (path / name).read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("send", "number"),
    # The second as Ctrl-C does, so that the training gets it three times.
    [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)],
)
def test_a_signal_to_the_pipeline_reaches_the_training(send, number, tmp_path):
    checkpoints = tmp_path / "Trainer" / "model_run" / "2" / "masks" / "checkpoints"
    started = command(tmp_path, "--trainer=--steps=4000")
    with (tmp_path / "said").open("w") as file:
        process = subprocess.Popen(
            started, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    until = time.monotonic() + 300
    while not (checkpoints / "ckpt-2").exists() and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.01)
    send(process.pid, number)
    assert process.wait(60) == 1
    said = (tmp_path / "said").read_text()
    assert "as asked; the same command resumes" in said
    assert said.endswith("pipeline: Trainer: exit code 2; the same command resumes here\n")
    assert "Traceback" not in said
    assert not (tmp_path / "Trainer" / "model_run" / "2" / "model.keras").exists()


def test_what_is_gone_is_made_again(root):
    path, _ = root
    shutil.rmtree(path / "serving" / "casm" / "1")
    done = call(path)
    assert done.returncode == 0, done.stderr
    assert last(done)["executed"] == ["Pusher"]
    assert pathlib.Path(last(done)["pushed"]).exists()


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--trainer=steps", "--trainer: expected a flag such as --name=value; found 'steps'"),
        ("--trainer=--flagfile=configs/no.flags", "--trainer: "),
        ("--pipeline_root=setup.py", "--pipeline_root: "),
    ],
)
def test_a_users_mistake_is_one_line(argument, message, tmp_path):
    done = programs.call("components.pipeline", f"--pipeline_root={tmp_path}", argument)
    assert done.returncode == 2
    assert done.stderr.startswith(f"pipeline: {message}") and done.stderr.count("\n") == 1


def test_a_root_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "lineage.sqlite").write_bytes(b"no database" * 100)
    done = call(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("pipeline: --pipeline_root: ") and done.stderr.count("\n") == 1
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "lineage.sqlite").execute("SELECT * FROM executions")
