"""When each task of a graph ran."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """One entry a task; the makespan is the latest end, zero for an empty graph."""

    start_s: list[float]
    end_s: list[float]
    makespan_s: float
