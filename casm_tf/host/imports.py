"""Imports without what they bring along for nothing."""

import contextlib
import gc
import sys

# Keras imports them for its wrappers and plots: 1.5 s.
OF_KERAS = ("sklearn", "matplotlib", "pandas")


@contextlib.contextmanager
def without(*names):
    """Let imports of packages that are not imported yet fail for a while, as if not installed."""
    blocked = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(blocked))
    try:
        yield
    finally:
        for name in blocked:
            del sys.modules[name]


@contextlib.contextmanager
def uncollected():
    """Make many objects that stay without Python's looking through them again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
