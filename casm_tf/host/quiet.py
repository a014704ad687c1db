"""Imports TensorFlow without its notes on the terminal; programs import this module first.

TensorFlow 2.21 writes some lines before it reads TF_CPP_MIN_LOG_LEVEL, and two of them when it
looks for GPUs (tensorflow issue 100442): they are kept in `said`. A user who sets that variable to
0 sees them all. Of a model that was exported without its custom gradients it warns when it loads
it; masks need none. TFDS 4.9.10 warns of its own use of `FeatureConnector.dtype` where a part of an
example is read, of every data set that is not fixed in its code, and, where records are numbered,
of its own `Counter`.
"""

import contextlib
import logging as python_logging
import os
import pathlib
import sys
import tempfile
import traceback

from absl import logging

from casm_tf.host import imports

_READS_SETTINGS = ("keras/src/backend/config.py", "tensorflow/python/keras/backend.py")
_TAKES_KERAS = sys.modules.get("keras", "") is not None  # see imports.without
said = ""  # what TensorFlow wrote at its start


@contextlib.contextmanager
def _keeping_what_is_said():
    """Take what is written to file descriptor 2, by C++ too, into `said`."""
    global said
    kept = os.dup(2)
    with (
        os.fdopen(os.memfd_create("stderr"), "w+b")
        if hasattr(os, "memfd_create")
        else tempfile.TemporaryFile()  # macOS has none in memory
    ) as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said = file.read().decode(errors="replace")


@contextlib.contextmanager
def _settings_of_keras():
    """Where Keras is left out, none are read; else end with one line for those it fails at.

    TensorFlow 2.21 has an old Keras inside that reads them too, and fails at the same.
    """
    home = os.environ.get("KERAS_HOME")
    if not _TAKES_KERAS:
        os.environ["KERAS_HOME"] = os.devnull
    try:
        yield
    except Exception as error:
        where = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if not any(name.endswith(_READS_SETTINGS) for name in where):
            raise
        path = pathlib.Path(home or "~/.keras") / "keras.json"
        line = f"{pathlib.Path(sys.argv[0]).stem}: {path} or a KERAS_ variable: Keras does not"
        print(f"{line} take these settings ({type(error).__name__}: {error})", file=sys.stderr)
        sys.exit(2)
    finally:
        os.environ.pop("KERAS_HOME", None)
        if home is not None:
            os.environ["KERAS_HOME"] = home


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.path.expanduser("~") == "~":  # noqa: PTH111  (pathlib raises)
    # Keras would make a folder ~ for its settings. This is its own choice where one cannot write.
    os.environ.setdefault("KERAS_HOME", "/tmp/.keras")
# Matplotlib tells of a home directory that it cannot write in.
python_logging.getLogger("matplotlib").setLevel(python_logging.ERROR)
with (
    _settings_of_keras(),
    contextlib.nullcontext()
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    else _keeping_what_is_said(),
    imports.without(*imports.OF_KERAS),
    imports.uncollected(),
):
    import tensorflow as tf

    if _TAKES_KERAS:
        import keras  # noqa: F401

    tf.config.list_physical_devices()

_NOTES = (
    *(".dtype` is deprecated", "Using custom data configuration", "CounterV2"),
    "with ops with unsaved custom gradients",
)
for _logger in (logging.get_absl_logger(), tf.get_logger()):
    _logger.addFilter(lambda record: not any(note in record.getMessage() for note in _NOTES))
