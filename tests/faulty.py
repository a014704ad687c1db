"""For the tests of faults: the training as a process that runs on, and what it leaves."""

import pathlib
import subprocess
import time

import keras
import numpy as np
import programs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow import make_ndarray

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)

SMALL = (*programs.SMALL, "--thinning=L")


class Training:
    """A casm_tf.train that runs in a fork, or, with options of subprocess's, as a process.

    Attributes:
        process: a `subprocess.Popen`, or what stands for it; of a fork it calls `run`.
        output: a file that takes what it says on both streams.
    """

    def __init__(
        self,
        output,
        *arguments,
        module="casm_tf.train",
        eager=False,
        run=programs.run_module,
        **options,
    ):
        self.output = pathlib.Path(output)
        self.output.touch()
        if options:
            with self.output.open("ab") as file:
                command = programs.command(module, *arguments)
                self.process = subprocess.Popen(
                    command, cwd=programs.ROOT, stdout=file, stderr=subprocess.STDOUT, **options
                )
        else:
            self.process = programs.start(
                run,
                *(module, *map(str, arguments)),
                **{"stdout": self.output, "stderr": self.output, "eager": eager},
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
