"""A training that is killed again and again ends as one that was not, to the last bit."""

import contextlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from programs import ROOT, SMALL
from test_workers import written

KILLS = 20
# Steps of a tenth of a second, a snapshot at each, and a look at the validation split.
COMMAND = (
    *(sys.executable, "-m", "casm_tf.train", *SMALL, "--batch_size=128"),
    *("--pretraining_steps=20", "--steps=60", "--decay_every=25", "--thinning=L1"),
    *("--snapshots=5", "--checkpoint_every=2", "--validate_every=3", "--flip"),
)


def checkpoints(run_dir):
    return set(run_dir.glob("*/checkpoints/ckpt-*"))


def unfinished(run_dir):
    """Checkpoints that are being written, or were: by inode, as names come again."""
    return {path.stat().st_ino for path in run_dir.glob("*/checkpoints/.unfinished.*")}


def killed_once(command, run_dir, draw):
    """Start the training and kill it; where it was then, or None if it came to its end."""
    before, left = checkpoints(run_dir), unfinished(run_dir)
    # A quarter while it starts; the others after it wrote a checkpoint, or is about to.
    starting = draw.random() < 0.25
    delay = draw.uniform(2, 10) if starting else draw.uniform(0, 0.25)
    in_writing = not starting and draw.random() < 0.4
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while not starting and process.poll() is None and checkpoints(run_dir) <= before:
        with contextlib.suppress(FileNotFoundError):  # it may be renamed while it is looked at
            if in_writing and unfinished(run_dir) - left:
                delay = 0
                break
        time.sleep(0.001)
        assert time.monotonic() - started < 200
    if process.poll() is None:
        time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    if process.returncode == 0:
        return None
    assert process.returncode == -signal.SIGKILL, errors
    if unfinished(run_dir) - left:
        return "writing"
    return "starting" if checkpoints(run_dir) <= before else "training"


@pytest.mark.long
def test_60_steps_with_20_kills_are_60_steps_to_the_bit(tiny_data_dir, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    command = (*COMMAND, f"--data_dir={tiny_data_dir}")
    subprocess.run([*command, f"--run_dir={straight}"], cwd=ROOT, check=True)

    draw, moments = random.Random(6), []
    while len(moments) < KILLS:
        moments.append(killed_once([*command, f"--run_dir={killed}"], killed, draw))
        assert moments[-1] is not None, f"at its end after {len(moments) - 1} kills"
        print(moments[-1], sorted(path.name for path in checkpoints(killed)), flush=True)
    assert {"starting", "training"} <= set(moments)
    subprocess.run([*command, f"--run_dir={killed}"], cwd=ROOT, check=True)

    for training in ("pretraining", "masks"):
        one, other = written(straight / training), written(killed / training)
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert np.array_equal(value, other[name]), name
