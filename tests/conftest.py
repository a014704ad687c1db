"""What the tests share: quiet TensorFlow, four logical CPUs, a small data set."""

import casm_tf.host.quiet  # noqa: F401

# isort: split

import hypothesis
import pytest
import tensorflow as tf

from casm_tf.data import input_pipeline

# MirroredStrategy is tested on them; they have to be there before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)
# A loaded machine is no reason to fail.
hypothesis.settings.register_profile("casm_tf", deadline=None, derandomize=True)
hypothesis.settings.load_profile("casm_tf")


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory):
    """A directory that holds digit_scenes/tiny."""
    directory = tmp_path_factory.mktemp("data")
    input_pipeline.open_dataset("digit_scenes/tiny", str(directory))
    return directory


@pytest.fixture(scope="session")
def two_replicas():
    """The one MirroredStrategy of two of this process: TensorFlow mixes up those of a second."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
