"""What the machine gives: files, locks, imports, a quiet start."""

import os


def cores():
    """How many of this machine's cores the process may use; on macOS how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
