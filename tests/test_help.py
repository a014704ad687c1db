"""What --help shows, and the commands that the programs print."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from programs import ROOT, assert_refused, call, run

from casm_tf import choices, networks
from casm_tf.cli import program
from casm_tf.evaluation import baselines
from casm_tf.networks import applications, efficientnet_lite

PROGRAMS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("casm_tf", "components")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "program.run(" in path.read_text()
]


@pytest.fixture(scope="module")
def of_training():
    done = call("casm_tf.train", "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_flag_of_the_training_stands_in_its_group_once(of_training):
    defined = (ROOT / "casm_tf" / "cli" / "train_flags.py").read_text()
    names = re.findall(r'^flags\.DEFINE_\w+\(\s*"(\w+)"', defined, re.MULTILINE)
    assert re.findall(r"^  --(?:\[no\])?(\w+): ", of_training, re.MULTILINE) == [
        *names,
        "max_pixels",
    ]
    groups = re.findall(r"^([\w ]+):$", of_training, re.MULTILINE)[-7:]
    assert groups == [
        *("start here", "data", "networks", "objectives", "thinning", "optimization", "machine")
    ]
    first = of_training.split("\nstart here:\n")[1].split("\ndata:\n")[0]
    names = re.findall(r"^  --(?:\[no\])?(\w+): ", first, re.MULTILINE)
    assert names == ["dataset", "image_dir", "run_dir", "start", "targets"]
    assert "--seed: Of the initial weights, the data's order and every draw. Default: 0.\n" in (
        of_training
    )
    assert "One of: entropy, classification. Default: entropy." in of_training


def test_the_examples_of_help_are_understood(of_training, tmp_path):
    text = of_training.split("\nstart here:\n")[0].replace("\\\n", " ")
    examples = [line.split() for line in text.splitlines() if line.startswith("    ")]
    assert len(examples) == 4
    for _, _, module, *given in examples:
        given = [argument for argument in given if not argument.startswith("--run_dir=")]
        # Refused for the last flag, after all others were parsed.
        done = call(module, *given, "--run_dir=/dev/null/run")
        assert (done.returncode, done.stderr.partition(":")[2][:11]) == (2, " --run_dir:")


@pytest.mark.parametrize(
    "module", ["casm_tf.extract", "components.evaluator", "components.pipeline"]
)
def test_the_other_programs_help_is_what_they_do_and_their_flags(module):
    done = call(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    assert done.stdout.startswith(source.removeprefix('"""').partition(":")[0])
    shown = re.findall(r"^  --(?:\[no\])?(\w+): .", done.stdout, re.MULTILINE)
    defined = re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', source)
    assert [name for name in shown if name in defined] == defined
    assert len(shown) == len(set(shown))
    assert max(map(len, done.stdout.splitlines())) <= 110


def imported_by(module, argument):
    """What a program did in a process of its own, and the packages that it imported."""
    # Each import is a line on standard error; by this variable TensorFlow's are, too.
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    done = run([sys.executable, "-X", "importtime", "-m", module, argument], env=env)
    lines = done.stderr.splitlines(keepends=True)
    names = [line.rpartition("|")[2] for line in lines if line.startswith("import time:")]
    done.stderr = "".join(line for line in lines if not line.startswith("import time:"))
    return done, {name.strip().partition(".")[0] for name in names}


@pytest.mark.parametrize("module", PROGRAMS)
def test_help_is_answered_before_tensorflow_is_imported(module):
    done, packages = imported_by(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "absl" in packages
    assert not packages & {"tensorflow", "keras", "tensorflow_datasets", "matplotlib", "cv2"}


@pytest.mark.parametrize(
    ("module", "argument", "expected"),
    [
        ("casm_tf.train", "--lamda_size=1", "Unknown command line flag 'lamda_size'"),
        ("casm_tf.train", "--seed=0", "--run_dir: expected a value"),
        ("casm_tf.train", "--batch_size=0", "--batch_size=0: "),
        ("casm_tf.extract", "no.jpg", "there is no no.jpg"),
        ("components.evaluator", "--run_dir=gs://a/run", "--run_dir: gs://a/run is no path"),
        ("components.pusher", "runs/mine", "takes flags only; found 'runs/mine'"),
    ],
)
def test_a_mistake_is_refused_before_tensorflow_is_imported(module, argument, expected):
    done, packages = imported_by(module, argument)
    assert_refused(done, expected)
    assert "tensorflow" not in packages


def test_the_networks_that_flags_name_are_those_that_are_there():
    assert tuple(networks.RESNETS) == choices.RESNETS
    assert tuple(efficientnet_lite.SCALES) == choices.EFFICIENTNETS_LITE
    assert tuple(applications.NETWORKS) == choices.KERAS_NETWORKS
    assert tuple(baselines.FORWARD_PASSES) == choices.COMPARED


@pytest.mark.parametrize(
    ("executable", "found", "expected"),
    [
        ("here/.venv/bin/python", None, ".venv/bin/python"),
        ("here/my env/bin/python3", None, "'my env/bin/python3'"),
        ("other/bin/python3.11", "other/bin/python", "python"),
        ("other/bin/python3.11", "third/bin/python", "{}/other/bin/python3.11"),
        ("other/bin/python", None, "{}/other/bin/python"),
    ],
)
def test_a_command_starts_with_the_environments_python(
    executable, found, expected, monkeypatch, tmp_path
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "executable", str(tmp_path / executable))
    monkeypatch.setattr(shutil, "which", lambda _: found and str(tmp_path / found))
    command = program.command("casm_tf.train", "--run_dir=a b", pathlib.Path("x"))
    assert command == f"{expected.format(tmp_path)} -m casm_tf.train '--run_dir=a b' x"


def test_a_command_works_as_it_stands(tmp_path):
    command = program.command("casm_tf.cli.program")
    python = shlex.split(command)[0]
    code = "import sys; print(sys.executable)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert pathlib.Path(found.stdout.strip()) == pathlib.Path(sys.executable)
