"""Checkpoints: what is read is what was written, or is known not to be."""

import os
import pathlib
import random
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from casm_tf.training.checkpoints import Checkpoints


def state(value):
    """Two variables that are full of a number."""
    weights = tf.Variable(tf.fill((3, 2), float(value)))
    return {"classifier": [weights], "step": [tf.Variable(value, dtype=tf.int64)]}


def values(variables):
    return [float(np.unique(x.numpy()).item()) for some in variables.values() for x in some]


def written(directory, steps=(1, 2)):
    for step in steps:
        checkpoints = Checkpoints(state(step), directory)
        checkpoints.save(step)
        checkpoints.wait()
    return directory


def restored(directory):
    """The step, the variables' values and what was reported."""
    variables, told = state(0), []
    step = Checkpoints(variables, directory).restore(told.append)
    return step, values(variables), told


def test_the_newest_is_taken_and_only_two_are_kept(tmp_path):
    assert restored(tmp_path) == (0, [0, 0], [])
    written(tmp_path, (9, 10, 11))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-10", "ckpt-11"]
    assert restored(tmp_path) == (11, [11, 11], [])


def test_anyone_can_read_and_check_one(tmp_path):
    folder = written(tmp_path, (4,)) / "ckpt-4"
    found = tf.train.load_checkpoint(folder / "variables")
    assert found.get_tensor("classifier/0").tolist() == [[4, 4]] * 3
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True
    )
    assert checked.returncode == 0


def test_what_changes_after_save_is_not_in_it(tmp_path):
    variables = {"slots": [tf.Variable(tf.zeros((4, 300_000)))], "step": [tf.Variable(0)]}
    slots, step = variables["slots"][0], variables["step"][0]
    checkpoints = Checkpoints(variables, tmp_path)
    checkpoints.save(7)
    step.assign_add(1)
    slots[2].assign(tf.ones(300_000))
    slots.assign_add(tf.ones((4, 300_000)))
    checkpoints.wait()
    assert Checkpoints(variables, tmp_path).restore() == 7
    assert (int(step), float(tf.reduce_max(slots))) == (0, 0)


def flips(path, count):
    """Places and bits of a file, evenly spread and its ends."""
    size = path.stat().st_size
    draw = random.Random(0)
    places = {0, size - 1, *(draw.randrange(size) for _ in range(count))}
    return [(place, 1 << draw.randrange(8)) for place in sorted(places)]


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001", "SHA256SUMS"])
def test_any_flipped_bit_is_recognised_named_and_passed_over(name, tmp_path):
    path = written(tmp_path) / "ckpt-2" / name
    good = path.read_bytes()
    for place, bit in flips(path, 60):
        path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
        step, found, told = restored(tmp_path)
        assert (step, found) == (1, [1, 1])
        assert len(told) == 1
        assert str(path.parent) in told[0]
        assert name == "SHA256SUMS" or str(path) in told[0]
    path.write_bytes(good)
    assert restored(tmp_path) == (2, [2, 2], [])


@pytest.mark.parametrize("harm", ["cut", "empty", "no data", "no sums", "nothing", "another file"])
def test_a_broken_folder_is_passed_over(harm, tmp_path):
    folder = written(tmp_path) / "ckpt-2"
    data = folder / "variables.data-00000-of-00001"
    if harm in ("cut", "empty"):
        data.write_bytes(data.read_bytes()[:-1] if harm == "cut" else b"")
    elif harm == "no data":
        data.unlink()
    elif harm == "no sums":
        (folder / "SHA256SUMS").unlink()
    elif harm == "nothing":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        (folder / "more").write_text("more")
    step, found, told = restored(tmp_path)
    assert (step, found) == (1, [1, 1])
    assert len(told) == 1 and "ckpt-2" in told[0]


def test_what_a_kill_leaves_half_written_is_not_taken_and_goes(tmp_path):
    shutil.copytree(written(tmp_path, (1,)) / "ckpt-1", tmp_path / ".unfinished.ckpt-2")
    assert restored(tmp_path) == (1, [1, 1], [])
    written(tmp_path, (2,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-1", "ckpt-2"]


def test_a_damaged_one_does_not_stand_in_the_way_of_those_after_it(tmp_path):
    (written(tmp_path, (1, 9)) / "ckpt-9" / "SHA256SUMS").write_text("")
    checkpoints = Checkpoints(state(0), tmp_path)
    assert checkpoints.restore(lambda line: None) == 1
    assert checkpoints.newest() == tmp_path / "ckpt-1"
    for step in (2, 3):
        checkpoints.save(step)
    checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-2", "ckpt-3"]


def test_with_all_damaged_it_does_not_begin_anew(tmp_path):
    for path in written(tmp_path).glob("*/SHA256SUMS"):
        path.write_text("")
    with pytest.raises(OSError, match="every checkpoint is damaged"):
        restored(tmp_path)


def test_one_of_another_model_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(OSError, match=r"ckpt-2 is of another model"):
        Checkpoints({"classifier": [tf.Variable([1.0])]}, tmp_path).restore()


def test_what_goes_wrong_in_writing_is_raised_by_the_next_call(tmp_path):
    (tmp_path / "checkpoints").write_text("no directory")
    checkpoints = Checkpoints(state(0), tmp_path / "checkpoints")
    checkpoints.save(1)
    with pytest.raises(OSError):
        checkpoints.wait()
    checkpoints.save(2)
    with pytest.raises(OSError):
        checkpoints.save(3)


def test_all_is_on_the_disk_before_it_has_its_name_and_the_name_before_an_old_one_goes(
    tmp_path, monkeypatch
):
    """Watched, not tried: only a power cut would show it."""
    synced, renamed = set(), []
    fsync, replace, rmtree = os.fsync, pathlib.Path.replace, shutil.rmtree

    def watched_fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(path, target):
        assert {x.stat().st_ino for x in (path, *path.iterdir())} <= synced
        renamed.append(replace(path, target))
        synced.clear()

    def watched_rmtree(path, **_):
        assert tmp_path.stat().st_ino in synced
        rmtree(path)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(pathlib.Path, "replace", watched_replace)
    monkeypatch.setattr(shutil, "rmtree", watched_rmtree)
    written(tmp_path, (1, 2, 3))
    assert len(renamed) == 3


def test_one_that_does_not_write_only_reads(tmp_path):
    variables = state(0)
    checkpoints = Checkpoints(variables, written(tmp_path), writes=False)
    assert checkpoints.restore() == 2
    checkpoints.save(3)
    checkpoints.wait()
    assert restored(tmp_path)[0] == 2
