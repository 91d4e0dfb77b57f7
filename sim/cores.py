"""How many of this machine's cores are ours."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """CPUs that this process may use: fewer than there are in a container or a batch job; all where none can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
