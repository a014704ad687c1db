"""Where a training runs: one device, the GPUs of one machine, or several machines."""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil

import tensorflow as tf

from casm_tf import host

_LOST = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    tf.errors.DeadlineExceededError,
)
# Of an InternalError, which is raised for bugs too: gRPC's and the coordination service's words.
_OF_CONNECTIONS = re.compile(
    "RST_STREAM|connection|socket closed|coordination service|heartbeat", re.IGNORECASE
)


class WorkerLostError(Exception):
    """Another worker of this training does not answer."""


def make(name):
    """The `tf.distribute.Strategy` of a name in `choices.STRATEGIES`, before anything else.

    "auto" is multi_worker where TF_CONFIG names workers, mirrored where there are several GPUs,
    one_device otherwise. Raises ValueError for a TF_CONFIG that names none, or is no JSON.
    """
    if not os.environ.get("TF_CONFIG"):
        os.environ.pop("TF_CONFIG", None)  # TensorFlow would read JSON in an empty one.
    workers = _workers(os.environ.get("TF_CONFIG", ""))
    if name == "multi_worker" or (name == "auto" and workers):
        if not workers:
            raise ValueError(
                'multi_worker needs TF_CONFIG={"cluster": {"worker": ["host:port", ...]}, '
                '"task": {"type": "worker", "index": 0}} in the environment'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" or (name == "auto" and len(tf.config.list_logical_devices("GPU")) > 1):
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def described(precision, said):
    """A line: the devices, what is computed in and, where no GPU of this machine is used, why.

    `said` is what TensorFlow wrote when it looked for them (`casm_tf.host.quiet.said`).
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        names = ", ".join(sorted({found.get("device_name", "GPU") for found in details}))
        return f"devices  {len(gpus)} x {names}, {precision}"
    line = f"devices  CPU ({host.cores()} cores), {precision}"
    signs = _signs_of_gpus()
    if not signs:
        return line
    # What is behind severity, day, time, thread and file.
    notes = re.findall(r"^[IWEF]\d{4} .*?\] (.*(?:GPU|CUDA|cuda|cuInit).*)$", said, re.MULTILINE)
    why = "; ".join(dict.fromkeys(notes)) or "TF_CPP_MIN_LOG_LEVEL=0 in the environment shows why"
    return f"{line}; no GPU is used, though there is {' and '.join(signs)}: {why}"


def _signs_of_gpus():
    """What of this machine speaks of NVIDIA's GPUs; nothing where the user hides them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return []
    signs = [f"CUDA_VISIBLE_DEVICES={visible}"] if visible else []
    signs += map(str, sorted(pathlib.Path("/dev").glob("nvidia[0-9]*")))
    return signs + list(filter(None, [shutil.which("nvidia-smi")]))


def is_chief(strategy):
    """Whether this process is the one that writes: the first worker, or the only one."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.cluster_spec().jobs or resolver.task_id == 0


def wait_for_all(strategy):
    """Wait until all workers are here: the first has to be the last to leave."""
    is_any(strategy, False)


def is_any(strategy, value):
    """Whether `value` is true on any worker; with several all of them have to ask.

    Raises WorkerLostError where one is gone.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    with blaming_lost_workers(strategy):
        return bool(_sum_over_workers(strategy)(tf.constant(float(value))) > 0)


@functools.cache
def _sum_over_workers(strategy):
    # Outside of a tf.function TensorFlow warns of what a collective costs.
    return tf.function(lambda x: strategy.reduce("sum", strategy.run(tf.identity, (x,)), axis=None))


@contextlib.contextmanager
def blaming_lost_workers(strategy):
    """Turn what TensorFlow raises where a worker of several is gone into `WorkerLostError`."""
    try:
        yield
    except (*_LOST, tf.errors.InternalError) as error:
        is_lost = isinstance(error, _LOST) or _OF_CONNECTIONS.search(error.message)
        if not is_lost or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        lines = error.message.splitlines()
        told = [line for line in lines if line.startswith("/job:") or "aborted by" in line]
        raise WorkerLostError((told or lines)[0]) from error


def _workers(text):
    """The workers' addresses in TF_CONFIG."""
    if not text:
        return []
    try:
        config = json.loads(text)
        workers = config.get("cluster", {}).get("worker", [])
        task = config.get("task", {})
        if not isinstance(workers, list) or not all(isinstance(name, str) for name in workers):
            raise ValueError(f"workers are a list of addresses, not {workers!r}")
        if workers and not (task["type"] == "worker" and 0 <= task["index"] < len(workers)):
            raise ValueError(f"task {task} is none of {len(workers)} workers")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"TF_CONFIG: {error}; found {text[:200]!r}") from error
    return workers
