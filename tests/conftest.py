"""What the tests share: quiet TensorFlow, four logical CPUs, a small data set, a finished run."""

import casm_tf.host.quiet  # noqa: F401

# isort: split

import os
import warnings

import hypothesis
import programs
import pytest
import tensorflow as tf

from casm_tf.data import datasets
from casm_tf.host import files

# MirroredStrategy is tested on them; they have to be there before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)
# A loaded machine is no reason to fail.
hypothesis.settings.register_profile("casm_tf", deadline=None, derandomize=True)
hypothesis.settings.load_profile("casm_tf")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """(name, make) -> a folder that make(folder) filled, once for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made_once(name, make):
        folder, made = root / name, root / f"{name}.made"
        with files.locked(root / f"{name}.lock"):
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def tiny_data_dir(made_once):
    """A directory that holds digit_scenes/tiny."""
    return made_once("data", lambda folder: datasets.open_dataset("digit_scenes/tiny", folder))


@pytest.fixture(scope="session")
def finished_run(made_once, tiny_data_dir):
    """The directory of a run of the train program with `programs.SMALL`, for reading only."""

    def train(folder):
        where = (f"--data_dir={tiny_data_dir}", f"--run_dir={folder / 'run'}")
        done = programs.call("casm_tf.train", *programs.SMALL, *where, eager=True)
        assert done.returncode == 0, done.stderr

    return made_once("finished", train) / "run"


@pytest.fixture
def eagerly():
    """TensorFlow runs functions line by line: to trace them takes longer than ten steps."""
    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions")
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def two_replicas():
    """The one MirroredStrategy of two of this process: TensorFlow mixes up those of a second."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
