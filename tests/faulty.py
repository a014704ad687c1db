"""For the tests of faults: the training as a process that runs on, and what it leaves."""

import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow import make_ndarray
from test_programs import ROOT, SMALL

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)

SMALL = (*SMALL, "--thinning=L", "--deterministic")


class Training:
    """A process of casm_tf.train, or of another module with its arguments.

    Attributes:
        process: a `subprocess.Popen`.
        output: a file that takes what it says on both streams.
    """

    def __init__(self, output, *arguments, module="casm_tf.train", **options):
        self.output = pathlib.Path(output)
        command = [sys.executable, "-u", "-m", module, *map(str, arguments)]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, **options
            )

    def text(self):
        return self.output.read_text()

    def wait_until(self, is_so):
        """Wait until is_so() is true; the training is then still running."""
        end = time.monotonic() + 120
        while not is_so():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.02)

    def ended(self):
        """(its exit code, the last line it said)."""
        code = self.process.wait(timeout=120)
        assert "Traceback" not in self.text(), self.text()
        return code, self.text().splitlines()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras", compile=False).get_weights()


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def scalars(directory):
    """{tag: {step: value}} of all scalars."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()
    return {
        tag: {event.step: float(make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
        if make_ndarray(events.Tensors(tag)[0].tensor_proto).ndim == 0
    }
