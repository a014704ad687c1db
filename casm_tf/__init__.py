"""Classifier-agnostic saliency map extraction (Zolna, Geras and Cho, CVIU 2020)."""

import importlib
import os

# Keras reads it when it is imported, which TensorFlow does too.
os.environ["KERAS_BACKEND"] = "tensorflow"

_MODULES = {
    "CASM": "casm_tf.casm",
    "MaskModel": "casm_tf.serving.mask_model",
    "Snapshots": "casm_tf.thinning",
    "Thinning": "casm_tf.thinning",
}
__all__ = list(_MODULES)
__version__ = "0.1.0"


def __getattr__(name):
    # When it is first used: `import casm_tf` is to cost nothing.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
