"""What the machine gives: files, locks, imports, a quiet start."""

import os
import sys

if sys.stderr is None:  # closed, as some schedulers do: the next file opened would be it
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115


def cores():
    """How many of this machine's cores the process may use; on macOS how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
