"""Several processes that train together over 127.0.0.1, and what becomes of the others of one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import programs
import pytest
import tensorflow as tf
from programs import ROOT, SMALL

from casm_tf.training import devices


@contextlib.contextmanager
def workers(*command, count=2):
    """So many processes of one command, each with its own TF_CONFIG; they are killed at the end."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        ports = [opened.getsockname()[1] for opened in sockets]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = []
    for index in range(count):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**os.environ, "TF_CONFIG": config, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def written(directory):
    """The variables of a training's newest checkpoint."""
    folder = max(directory.glob("checkpoints/ckpt-*"), key=lambda path: int(path.name[5:]))
    reader = tf.train.load_checkpoint(folder / "variables")
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.long
@pytest.mark.parametrize("name", ["L", "L2"])
def test_two_workers_are_as_one_and_the_chief_alone_writes(name, tmp_path):
    with workers("tests/worker.py", tmp_path / "two", name) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    done = subprocess.run([sys.executable, "tests/worker.py", tmp_path / "one", name], cwd=ROOT)
    assert done.returncode == 0
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert one.keys() == two.keys()
    for variable, value in one.items():
        assert two[variable] == pytest.approx(value, abs=1e-5)
    assert len(list((tmp_path / "two").glob("events.*"))) == 1
    assert not list(tmp_path.rglob(".unfinished*"))


def wait_for(path, processes, seconds=200):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1], ids=["the chief", "the other"])
def test_a_killed_worker_ends_the_others_and_all_go_on_from_the_checkpoint(
    killed, tiny_data_dir, tmp_path
):
    run_dir = tmp_path / "run"
    where = (f"--data_dir={tiny_data_dir}", f"--run_dir={run_dir}")
    command = ("-m", "casm_tf.train", *SMALL, *where, "--decay_every=200")
    checkpoints = run_dir / "masks" / "checkpoints"
    with workers(*command, "--steps=200") as processes:
        wait_for(checkpoints / "ckpt-6", processes)
        processes[killed].send_signal(signal.SIGKILL)
        since = time.monotonic()
        _, errors = processes[1 - killed].communicate(timeout=100)
        seconds = time.monotonic() - since
    assert processes[1 - killed].returncode == 2
    assert seconds < 60
    last = errors.strip().splitlines()[-1]
    assert last.startswith("train: --strategy: another worker does not answer")
    assert "Traceback" not in errors
    assert not (run_dir / "model.keras").exists()
    print(f"ended {seconds:.0f} s after: {last}")

    newest = max(int(path.name[5:]) for path in checkpoints.glob("ckpt-*"))
    with workers(*command, "--steps=200") as processes:
        for process in processes:
            _, errors = process.communicate(timeout=400)
            assert process.returncode == 0, errors
            if process is processes[0]:
                assert f"| {newest}/200 [" in errors  # where its progress bar began
    assert (run_dir / "model.keras").exists()
    assert list((run_dir / "masks").glob("events.*"))


def test_one_that_is_lost_at_the_end_is_told_too(monkeypatch):
    def lost(_):
        raise tf.errors.UnavailableError(None, None, RESET)

    monkeypatch.setattr(devices, "_sum_over_workers", lambda _: lost)
    with pytest.raises(devices.WorkerLostError, match="reset by peer"):
        devices.wait_for_all(mock.Mock(spec=tf.distribute.MultiWorkerMirroredStrategy))


RESET = "Collective ops is aborted by: recvmsg:Connection reset by peer\nAdditional"


@pytest.mark.parametrize(
    ("kind", "message", "is_lost"),
    [
        ("UnavailableError", RESET, True),  # as TensorFlow 2.21 raises it where one was killed
        ("CancelledError", "RecvAsync is cancelled.", True),
        ("InternalError", "Received RST_STREAM with error code 2", True),
        ("InternalError", "Error reported from Coordination Service: a heartbeat timeout", True),
        ("InternalError", "{{node Relu}} oneDNN: could not create a primitive", False),
        ("InternalError", "Collective ops is aborted by: a failed op", False),
        ("InvalidArgumentError", "a bug", False),
    ],
)
def test_a_bug_in_an_op_is_no_lost_worker(kind, message, is_lost):
    error = getattr(tf.errors, kind)(None, None, message)
    several = mock.Mock(spec=tf.distribute.MultiWorkerMirroredStrategy)
    with (
        pytest.raises(devices.WorkerLostError if is_lost else type(error)) as raised,
        devices.blaming_lost_workers(several),
    ):
        raise error
    assert raised.value is error or str(raised.value) == message.splitlines()[0]
    with pytest.raises(type(error)), devices.blaming_lost_workers(tf.distribute.get_strategy()):
        raise error


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "multi_worker needs TF_CONFIG"),
        ("{", "TF_CONFIG: "),
        ("[]", "TF_CONFIG: "),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "TF_CONFIG: 'type'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "none of 1"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "none of 1"),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "a list of"),
        ('{"cluster": {"worker": [7]}, "task": {"type": "worker", "index": 0}}', "a list of"),
    ],
)
def test_what_names_no_workers_is_refused(text, found, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=found):
        devices.make("multi_worker")


def test_an_empty_tf_config_is_none():
    done = programs.fork(devices.make, "mirrored", env={"TF_CONFIG": ""})
    assert done.returncode == 0, done.stderr


def test_one_process_is_its_own_chief(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert devices.is_chief(devices.make("auto"))
