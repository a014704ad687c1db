"""Imports TensorFlow without its notes on the terminal; programs import this module first.

TensorFlow 2.21 writes some lines before it reads TF_CPP_MIN_LOG_LEVEL, and two of them when it
looks for GPUs (tensorflow issue 100442). A user who sets that variable to 0 sees them all. TFDS
4.9.10 warns of its own use of `FeatureConnector.dtype` where a part of an example is read, of
every data set that is not fixed in its code, and, where records are numbered, of its own `Counter`.
"""

import contextlib
import logging as python_logging
import os

from absl import logging

from casm_tf.host import imports


@contextlib.contextmanager
def _without_standard_error():
    """Throw away what is written to file descriptor 2, by C++ too."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nothing)
        os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.path.expanduser("~") == "~":  # noqa: PTH111  (pathlib raises)
    # Keras would make a folder ~ for its settings. This is its own choice where one cannot write.
    os.environ.setdefault("KERAS_HOME", "/tmp/.keras")
# Matplotlib tells of a home directory that it cannot write in.
python_logging.getLogger("matplotlib").setLevel(python_logging.ERROR)
with (
    contextlib.nullcontext()
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    else _without_standard_error(),
    imports.without(*imports.OF_KERAS),
    imports.uncollected(),
):
    import tensorflow as tf

    tf.config.list_physical_devices()

_NOTES = (".dtype` is deprecated", "Using custom data configuration", "CounterV2")
for _logger in (logging.get_absl_logger(), tf.get_logger()):
    _logger.addFilter(lambda record: not any(note in record.getMessage() for note in _NOTES))
