"""Models in Keras's format that others made; nothing in them is run."""

import pathlib
import re

import keras

import casm_tf.networks  # noqa: F401  (its layers have to be known when a model is loaded)
from casm_tf.host.archives import check_zip


def load_keras(path):
    """The model of a .keras file, not compiled.

    Raises ValueError for a file that is not whole, has code in it, has entries that would lie
    outside of it or unpacks to more than MAX_BYTES; OSError for one that is not there.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    check_zip(path)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the file's contents lead it to.
        if "code execution" in str(error):
            raise ValueError(f"{path} has code in it, as of a Lambda layer") from error
        if found := re.search(r"Could not locate class '(\w+)'", str(error)):
            reason = f"has a layer {found[1]}, which neither Keras nor casm_tf knows"
            raise ValueError(f"{path} {reason}") from error
        raise ValueError(f"{path} is not a whole model in Keras's format") from error
