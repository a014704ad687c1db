"""Names of files and folders that mean something elsewhere, to a shell, a URL, a pattern."""

import concurrent.futures
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
import unicodedata

import exports
import programs
import pytest
import tensorflow as tf
import trees

from casm_tf.cli import picture_files
from casm_tf.host import files
from casm_tf.serving.mask_model import located
from casm_tf.training.checkpoints import Checkpoints

SMALL = (
    *("--dataset=image_folder", "--classifier=small_resnet", "--image_size=32", "--batch_size=4"),
    *("--pretraining_steps=1", "--steps=2", "--decoder_channels=4", "--masked_steps=present"),
    *("--snapshots=1", "--checkpoint_every=1", "--thinning=L1"),
)
NAMES = [
    "br [1]",
    "-a 100% #1: *? {0} {x:y} $HOME",
    'it\'s, "so" \\ ~ &;|<>',
    unicodedata.normalize("NFC", "Caf\u00e9 \uac15\uc544\uc9c0"),
    unicodedata.normalize("NFD", "Caf\u00e9 \uac15\uc544\uc9c0"),
]


def call(module, *arguments, **options):
    done = programs.call(module, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def push_and_extract(home, pictures):
    options = (f"--run_dir={home / 'run'}", f"--serving_dir={home / 'serving'}")
    said = call("components.pusher", *options).stdout
    # The line that it gives to be pasted into a shell.
    (line,) = [line for line in said.splitlines() if line.startswith("next")]
    *_, model, _, _ = shlex.split(line)
    assert model == f"--model={home / 'serving' / 'casm' / '1'}"
    done = call("casm_tf.extract", pictures, f"--output={home / 'masks'}", model)
    assert len(done.stdout.splitlines()) == 2
    assert len(list((home / "masks").iterdir())) == 6


@pytest.mark.long
def test_a_run_resumes_is_pushed_and_used_in_folders_of_any_name(
    finished_run, tiny_data_dir, tmp_path
):
    home = tmp_path.joinpath(*NAMES)
    shutil.copytree(finished_run, home / "run")
    checkpoints = home / "run" / "masks" / "checkpoints"
    shutil.rmtree(checkpoints / "ckpt-6")
    shutil.copytree(tiny_data_dir, home / "data")
    where = (f"--data_dir={home / 'data'}", f"--run_dir={home / 'run'}")
    done = call("casm_tf.train", *programs.SMALL, *where, eager=True)
    assert "damaged" not in done.stdout and (checkpoints / "ckpt-6").exists()
    for number in range(2):
        trees.write(home / f"{number}.png", trees.picture(number))
    push_and_extract(home, home / "*.png")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name_from_pictures_to_masks(name, tmp_path):
    home = tmp_path / name
    trees.write_tree(home / name, count=2)
    options = (f"--image_dir={home / name}", f"--data_dir={home / 'data'}")
    call("casm_tf.train", *SMALL, *options, f"--run_dir={home / 'run'}", eager=True)
    push_and_extract(home, home / name / "val" / "cat")


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_found_in_any_folder(name, tmp_path):
    one, other = tf.Variable([1.0, 2.0]), tf.Variable([0.0, 0.0])
    writer = Checkpoints({"a": [one]}, tmp_path / name)
    writer.save(3)
    writer.wait()
    assert Checkpoints({"a": [other]}, tmp_path / name).restore() == 3
    assert other.numpy().tolist() == [1, 2]


def test_of_a_pattern_what_is_there_has_its_name(tmp_path):
    for folder in ("br [1]", "br 1", "br [1]/a*", "br [1]/ab"):
        trees.write(tmp_path / folder / "x.jpg")
    found = {
        pattern: sorted(
            str(path.relative_to(tmp_path))
            for path, _ in picture_files.find([tmp_path / pattern])[0]
        )
        for pattern in (
            "br [1]/*.jpg",
            "br [[]1]/a*/x.jpg",
            "br [1]/a*/*.jpg",
            "br [1-2]/*.jpg",
            "br [1]/x.jpg",
        )
    }
    assert found == {
        "br [1]/*.jpg": ["br [1]/x.jpg"],
        "br [[]1]/a*/x.jpg": ["br [1]/a*/x.jpg", "br [1]/ab/x.jpg"],
        "br [1]/a*/*.jpg": ["br [1]/a*/x.jpg"],
        "br [1-2]/*.jpg": ["br 1/x.jpg"],
        "br [1]/x.jpg": ["br [1]/x.jpg"],
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exports.export_tiny(tmp_path_factory.mktemp("serving") / "casm")


def test_a_name_that_is_too_long_costs_its_own_picture_alone(exported, tmp_path):
    for name in ("a", "b" * 244, "c" * 250, "d"):
        trees.write(tmp_path / f"{name}.png")
    (tmp_path / "masks" / "d.mask.png").mkdir(parents=True)
    done = programs.call("casm_tf.extract", ".", f"--model={exported}", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["a.png"]
    lines = [line for line in done.stderr.splitlines() if "Errno" in line]
    assert [line[:5] for line in lines] == ["bbbbb", "ccccc", "d.png"]
    assert (
        "File name too long: 'masks/ccc" in lines[1]
        and "Is a directory: 'masks/d.mask.png'" in lines[2]
    )
    assert "3 of 4 pictures could not be read or written" in done.stderr
    written = {path.name for path in (tmp_path / "masks").iterdir() if path.name[0] != "d"}
    assert written == {"a.mask.png", "a.overlay.jpg", "a.cutout.png"}


def test_a_file_may_have_the_longest_name(tmp_path):
    path = tmp_path / ("a" * 250 + ".json")
    with files.replacing(path) as unfinished:
        unfinished.write_text("1")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_two_may_write_one_file_at_once(tmp_path):
    path, both = tmp_path / "a.txt", threading.Barrier(2)

    def write(text):
        with files.replacing(path) as unfinished:
            unfinished.write_text(text)
            both.wait(10)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(write, "ab")) == [None, None]
    assert path.read_text() in ("a", "b")
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing_and_is_named_by_its_own_path(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "b").write_text("")
    with pytest.raises(OSError) as raised, files.replacing(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("1")
    assert raised.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "c.txt") as unfinished:
        unfinished.write_text("1")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_kill_leaves_goes_when_the_next_process_writes_there(tmp_path):
    killed = (
        "import os, sys; from casm_tf.host import files\n"
        "with files.replacing(sys.argv[1]) as path: path.write_text('1'); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", killed, str(tmp_path / "a.txt")]
    subprocess.run(command, cwd=programs.ROOT, check=False)
    others = [
        f".unfinished.{platform.node()}.{os.getppid()}.x",  # alive
        ".unfinished.another-machine.1.x",
        f".unfinished.{platform.node()}.1.9999999.x",  # of a machine with a longer name
        ".unfinished.mine",
    ]
    for name in others:
        (tmp_path / name).mkdir()
    assert len(list(tmp_path.iterdir())) == 5
    with files.replacing(tmp_path / "a.txt") as path:
        path.write_text("2")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a.txt"])


def test_a_model_is_found_by_its_run_its_file_or_its_newest_version(
    exported, finished_run, tmp_path
):
    for version in ("2", "10", "x"):
        shutil.copytree(exported, tmp_path / "casm" / version)
    assert located(tmp_path / "casm") == tmp_path / "casm" / "10"
    assert located(tmp_path / "casm" / "2") == tmp_path / "casm" / "2"
    assert located(finished_run) == located(finished_run / "model.keras") == finished_run
    assert located("http://host/v1/models/casm") == "http://host/v1/models/casm"
    (tmp_path / "model.keras").write_text("of no run")
    for wrong in ("", "model.keras", "none", "casm/2/saved_model.pb"):
        with pytest.raises(ValueError, match=r"no mask model; expected a run .* or what component"):
            located(tmp_path / wrong)


def test_extract_takes_a_runs_model_file(finished_run, tmp_path):
    trees.write(tmp_path / "a.png")
    call("casm_tf.extract", "a.png", f"--model={finished_run / 'model.keras'}", cwd=tmp_path)
    done = call("casm_tf.extract", "a.png", f"--model={finished_run}", cwd=tmp_path)
    assert "passed over 1" in done.stderr
