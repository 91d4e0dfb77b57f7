"""Many runs from one file: axes over a scenario's keys, run in parallel, kept by address, and judged together.

Names load when asked for: a worker process, which needs two modules of this package, starts without pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.sweep.analysis import Analysis, analyse
    from sim.sweep.definition import Sweep, load_sweep, make_sweep
    from sim.sweep.folder import read_sweep
    from sim.sweep.points import Points, expand
    from sim.sweep.progress import Progress
    from sim.sweep.runner import SweepStoppedError, run_sweep

__all__ = [
    "Analysis",
    "Points",
    "Progress",
    "Sweep",
    "SweepStoppedError",
    "analyse",
    "expand",
    "load_sweep",
    "make_sweep",
    "read_sweep",
    "run_sweep",
]
_MODULES = {
    "Analysis": "analysis", "analyse": "analysis", "Sweep": "definition", "load_sweep": "definition",
    "make_sweep": "definition", "read_sweep": "folder", "Points": "points", "expand": "points",
    "Progress": "progress", "SweepStoppedError": "runner", "run_sweep": "runner",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
