"""Signals, two runs on one directory and a clock that jumps, on trainings that run as processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import faulty
import pytest
import tensorflow as tf
import tiny_casm
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tiny_casm import tiny_resnet  # noqa: F401  (a fixture)

from casm_tf.training import hooks, loop
from components import examples

STEPS = ("--pretraining_steps=40", "--steps=40", "--checkpoint_every=5", "--validate_every=20")


def arguments(data_dir, run_dir):
    return (*faulty.SMALL, *STEPS, f"--data_dir={data_dir}", f"--run_dir={run_dir}")


def is_stopped(training_, stage):
    """The step after which it was, once its line says so."""
    code, said = training_.ended()
    assert code == 0
    found = re.fullmatch(
        rf"\S*/{stage}: stopped after step (\d+), as asked; the same command resumes there",
        said,
    )
    assert found, said
    return int(found[1])


@pytest.fixture(scope="module")
def straight(tiny_data_dir, tmp_path_factory):
    """A run that nothing happens to: its directory."""
    directory = tmp_path_factory.mktemp("straight")
    run_dir = directory / "run"
    with faulty.Training(directory / "said", *arguments(tiny_data_dir, run_dir)) as training_:
        assert training_.ended()[0] == 0
    return run_dir


def checkpoints_of(run_dir, stage):
    return {int(path.name[5:]) for path in (run_dir / stage / "checkpoints").glob("ckpt-*")}


def test_a_second_run_is_refused_and_a_signal_ends_the_first(tiny_data_dir, tmp_path):
    run_dir = tmp_path / "run"
    given = (*arguments(tiny_data_dir, run_dir), "--pretraining_steps=10000")
    with faulty.Training(tmp_path / "first", *given, eager=True) as first:
        first.wait_until(lambda: checkpoints_of(run_dir, "pretraining"))
        with faulty.Training(tmp_path / "second", *given, eager=True) as second:
            code, said = second.ended()
        first.process.send_signal(signal.SIGTERM)
        step = is_stopped(first, "pretraining")
    assert code == 2
    assert said.startswith(f"train: --run_dir: {run_dir} is in use by process {first.process.pid} ")
    assert step == max(checkpoints_of(run_dir, "pretraining"))
    assert not (run_dir / "model.keras").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "when", "number"),
    [
        ("masks", "steps", signal.SIGTERM),
        ("pretraining", "steps", signal.SIGINT),
        ("pretraining", "tracing", signal.SIGTERM),
        ("masks", "tracing", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_run_that_goes_on_to_the_same_weights(
    stage, when, number, straight, tiny_data_dir, tmp_path
):
    run_dir = tmp_path / "run"
    if stage == "masks":  # The pretraining is the same.
        run_dir.mkdir()
        for name in ("run.json", "classifier.weights.h5"):
            shutil.copy(straight / name, run_dir)
    given = arguments(tiny_data_dir, run_dir)
    with faulty.Training(tmp_path / "stopped", *given) as training_:
        if when == "tracing":
            training_.wait_until(lambda: f"{stage}:" in training_.text())
        else:
            training_.wait_until(lambda: checkpoints_of(run_dir, stage))
        sent = time.monotonic()
        training_.process.send_signal(number)
        step = is_stopped(training_, stage)
    print(f"{stage}, {when}: ended {time.monotonic() - sent:.1f} s after the signal")
    assert step == max(checkpoints_of(run_dir, stage)) < 40
    assert not (run_dir / "model.keras").exists()
    with faulty.Training(tmp_path / "resumed", *given) as training_:
        assert training_.ended()[0] == 0
    assert faulty.same(faulty.weights(straight), faulty.weights(run_dir))


def test_a_signal_breaks_off_a_validation(eagerly, tmp_path):
    asked, read = [], []
    batches = tf.data.Dataset.from_tensors(tiny_casm.BATCH).repeat()

    def ask(images, labels):
        read.append(1)
        if len(read) == 3:
            signal.raise_signal(signal.SIGTERM)
        return images, labels

    def validation(part):
        # As it takes for ever, this test does if nothing breaks it off.
        def counted(images, labels):
            found = tf.py_function(ask, (images, labels), (images.dtype, labels.dtype))
            return tf.ensure_shape(found[0], images.shape), tf.ensure_shape(found[1], labels.shape)

        return batches.map(counted)

    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    try:
        with pytest.raises(hooks.StoppedError, match="stopped after step 2, as asked"):
            loop.train(
                tiny_casm.make("L"),
                tmp_path,
                hooks.Schedule(9, validate_every=2, checkpoint_every=9),
                loop.Batches(8, lambda skip, part: batches, validation),
                asked=lambda: bool(asked),
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "checkpoints" / "ckpt-2").exists()
    assert "validation/accuracy" not in faulty.scalars(tmp_path)


@pytest.mark.long
def test_a_killed_run_leaves_its_directory_free(straight, tiny_data_dir, tmp_path):
    run_dir = tmp_path / "run"
    given = arguments(tiny_data_dir, run_dir)
    with faulty.Training(tmp_path / "killed", *given) as killed:
        killed.wait_until(lambda: checkpoints_of(run_dir, "masks"))
        killed.process.kill()
        killed.process.wait()
    with faulty.Training(tmp_path / "next", *given) as next_:
        assert next_.ended()[0] == 0
    assert faulty.same(faulty.weights(straight), faulty.weights(run_dir))


# The time of day is CLOCK_SHIFT seconds off, and jumps by CLOCK_JUMPS to and fro.
SHIFTED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int real(clockid_t id, struct timespec *now) {
  static int (*found)(clockid_t, struct timespec *);
  if (!found) found = dlsym(RTLD_NEXT, "clock_gettime");
  return found(id, now);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  struct timespec since;
  if (real(CLOCK_MONOTONIC, &since) || real(id, now)) return -1;
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
    now->tv_sec += atol(getenv("CLOCK_SHIFT"))
                   + (since.tv_sec % 3 - 1) * atol(getenv("CLOCK_JUMPS"));
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  int code = clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return code;
}

time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}
"""


@pytest.fixture
def environment(tmp_path):
    """(shift, jumps) -> the environment of a process that has another time, both in seconds."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "clock.c").write_text(SHIFTED_CLOCK)
    library = tmp_path / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"]
    subprocess.run(command, check=True)

    def environment(shift, jumps):
        times = {"CLOCK_SHIFT": str(shift), "CLOCK_JUMPS": str(jumps)}
        return os.environ | times | {"LD_PRELOAD": str(library)}

    def hours_off(*times):
        command = [sys.executable, "-c", "import time; print(time.time())"]
        said = subprocess.run(command, env=environment(*times), capture_output=True, check=True)
        return round((float(said.stdout) - time.time()) / 3600)

    assert hours_off(-86400, 0) == -24
    assert hours_off(0, 7200) in (-2, 0, 2)
    return environment


@pytest.mark.long
def test_a_clock_that_jumps(environment, straight, tiny_data_dir, tmp_path):
    run_dir = tmp_path / "run"
    given = arguments(tiny_data_dir, run_dir)
    with faulty.Training(tmp_path / "first", *given, env=environment(0, 7200)) as training_:
        training_.wait_until(lambda: list((run_dir / "masks").glob("events.*")))  # of step 20
        training_.process.send_signal(signal.SIGTERM)
        step = is_stopped(training_, "masks")
    # What --reload_multifile=true with --reload_multifile_inactive_secs=-1 does (see Makefile).
    shown = EventAccumulator(str(run_dir / "masks"), event_file_active_filter=lambda last: True)
    shown.Reload()
    with faulty.Training(tmp_path / "second", *given, env=environment(-86400, 7200)) as training_:
        assert training_.ended()[0] == 0
    # It went on from the newest checkpoint.
    assert f"| {step}/40 [" in training_.text()
    assert f"| {step - 1}/40 [" not in training_.text()
    assert faulty.same(faulty.weights(straight), faulty.weights(run_dir))
    # The second's events look older than the first's, which a TensorBoard has read by now.
    assert len(list((run_dir / "masks").glob("events.*"))) == 2
    assert [event.step for event in shown.Reload().Tensors("training/score")] == [20, 40]
    for stage in ("pretraining", "masks"):
        scalars = faulty.scalars(run_dir / stage)
        assert set(scalars["speed/images_per_second"]) == {20, 40}
        for value in scalars["speed/images_per_second"].values():
            assert 0 < value < 1e6


@pytest.mark.long
@pytest.mark.parametrize(
    ("send", "number"),
    # The second as Ctrl-C does, so that the training gets it twice.
    [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)],
)
def test_a_signal_to_the_trainer_reaches_the_training(send, number, tiny_data_dir, tmp_path):
    settings = {"dataset": "digit_scenes/tiny", "data_dir": str(tiny_data_dir)}
    examples.write(tmp_path / "examples", settings, {}, "")
    run_dir = tmp_path / "run"
    given = (f"--examples={tmp_path / 'examples'}", f"--run_dir={run_dir}", "--")
    flags = (*faulty.SMALL, *STEPS, "--pretraining_steps=4000")
    trainer = {"module": "components.trainer", "start_new_session": True}
    with faulty.Training(tmp_path / "said", *given, *flags, **trainer) as training_:
        training_.wait_until(lambda: checkpoints_of(run_dir, "pretraining"))
        send(training_.process.pid, number)
        code, said = training_.ended()
    assert code == 2
    assert said == "trainer: --run_dir: the training was stopped; the same command resumes it"
    assert "as asked; the same command resumes" in training_.text()
    assert not (run_dir / "weights.sha256").exists()
