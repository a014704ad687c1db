"""SIGTERM and Ctrl-C: a training stops after the step that is under way."""

import signal
import time

_asked = []  # when, by time.monotonic()


def stop_when_asked():
    """From now on SIGTERM and SIGINT are kept for `is_asked`; a second one ends the program."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ask)


def is_asked():
    """Whether one of them has come."""
    return bool(_asked)


def _ask(number, frame):
    _asked.append(time.monotonic())
    # Not within a second: a signal to a group of processes comes from components.trainer too.
    if _asked[-1] > _asked[0] + 1:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
