"""A disk that becomes full and data files that are damaged while a training runs: real ones."""

import shutil
import subprocess

import faulty
import programs
import pytest
import trees

from casm_tf import networks


@pytest.fixture
def disk(tmp_path):
    """An empty disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="module")
def classifier_weights(tmp_path_factory):
    """Of an untrained classifier for digit_scenes/tiny: no pretraining is needed."""
    path = tmp_path_factory.mktemp("classifier") / "classifier.weights.h5"
    networks.classifier("small_resnet", 32, 10).save_weights(path)
    return path


def resize(disk, kilobytes):
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


def leave(disk, kilobytes):
    """Make the disk so small that so much is left on it."""
    used = subprocess.run(["du", "-sk", disk], check=True, capture_output=True, text=True).stdout
    resize(disk, max(4, int(used.split()[0]) + kilobytes))


def is_refused(given, *expected):
    done = programs.call("casm_tf.train", *given, eager=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("train: --")
    for text in expected:
        assert text in said


def goes_on(given):
    done = programs.call("casm_tf.train", *given, eager=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def arguments(data_dir, run_dir, *options):
    return (*faulty.SMALL, f"--data_dir={data_dir}", f"--run_dir={run_dir}", *options)


@pytest.mark.long
def test_a_disk_that_is_full_at_a_checkpoint(disk, classifier_weights, tiny_data_dir):
    given = arguments(tiny_data_dir, disk / "run", f"--classifier_weights={classifier_weights}")
    # The classifier has 1.4 MB, a checkpoint 2.6 MB: the second has no room.
    resize(disk, 5800)
    checkpoints = disk / "run" / "masks" / "checkpoints"
    is_refused(given, f"{checkpoints}/.unfinished.ckpt-6", "No space left on device")
    assert [path.name for path in checkpoints.iterdir()] == ["ckpt-3"]
    resize(disk, 64_000)
    said = goes_on(given)
    assert "passed over" not in said
    assert "3/6" in said
    assert "2/6" not in said
    assert (disk / "run" / "model.keras").exists()


@pytest.mark.long
def test_a_disk_that_is_full_elsewhere(disk, tiny_data_dir):
    run_dir = disk / "run"
    given = arguments(tiny_data_dir, run_dir)

    def fails_at(kilobytes, place):
        leave(disk, kilobytes)
        is_refused(given, place, "No space left on device")
        assert not list(run_dir.rglob(".unfinished*"))
        resize(disk, 64_000)

    fails_at(0, str(disk))  # nothing can be written at all
    goes_on(given)
    (run_dir / "model.keras").unlink()
    fails_at(300, f"{run_dir}/model.keras")
    shutil.rmtree(run_dir / "masks" / "checkpoints")
    fails_at(700, f"{run_dir}/masks")  # no room for the events
    (run_dir / "classifier.weights.h5").unlink()
    fails_at(300, str(run_dir))  # where HDF5 would end the process
    goes_on(given)
    assert faulty.scalars(run_dir / "masks")["training/score"].keys() == {3, 6}


def removed(path):
    path.unlink()


def cut_off(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def changed(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(64))


def run_without_keeping_pictures(*arguments):
    from casm_tf.data import input_pipeline

    input_pipeline.KEPT_BYTES = 0
    programs.run_module(*arguments)


@pytest.mark.parametrize(
    "damage", [cut_off, *(pytest.param(x, marks=pytest.mark.long) for x in (removed, changed))]
)
def test_a_data_file_that_is_damaged_while_it_is_used(damage, tmp_path):
    trees.write_tree(tmp_path / "tree")
    run_dir, data_dir = tmp_path / "run", tmp_path / "data"
    given = arguments(
        data_dir,
        run_dir,
        *("--dataset=image_folder", f"--image_dir={tmp_path / 'tree'}", "--image_size=32"),
        # An epoch has two steps; there are too many for the training to be through before.
        *("--batch_size=8", "--pretraining_steps=10000"),
    )
    how = {"eager": True, "run": run_without_keeping_pictures}
    with faulty.Training(tmp_path / "said", *given, **how) as training:
        training.wait_until(lambda: list(run_dir.rglob("ckpt-*")))
        (path,) = data_dir.rglob("*-train.tfrecord*")
        damage(path)
        code, said = training.ended()
    assert code == 2
    assert said.startswith(f"train: --data_dir: {path} is damaged: ")
