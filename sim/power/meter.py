"""Joules of each replica's GPUs up to an instant: of its steps, and of its GPUs between them.

A step's watts are linear in what it does, so a run of steps that is under way counts by the steps done and a share of
the one being done: readings are the same whether steps are simulated one by one or as runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.power.clocks import AwakeJoules
from sim.serving.attribution import attribute_stages
from sim.serving.deployment import Deployment
from sim.serving.energy import run_watts
from sim.serving.record import RunLog, run_columns

Floats = NDArray[np.float64]


class Metered(Protocol):
    """A replica as its meter sees it."""

    def progress(self, now_s: float) -> list[tuple[bytes, float]]:
        """Rows of the run under way, and how much each counts; the last one's time is all of its time."""


class ReplicaMeter:
    """Of all replicas of a deployment; read it at rising instants."""

    def __init__(
        self,
        deployment: Deployment,
        replicas: Sequence[Metered],
        runs: RunLog,
        awake: AwakeJoules,
    ) -> None:
        self._deployment = deployment
        self._replicas = replicas
        self._runs = runs
        self._read = 0  # bytes of the log
        self._above_awake_j = np.zeros(len(replicas))  # of committed runs: more than GPUs without work would draw
        self._awake = awake

    def joules(self, now_s: float) -> Floats:
        """From 0 to now, of all GPUs of each replica: (replicas,)."""
        fresh = bytes(self._runs.rows[self._read :])
        self._read = len(self._runs.rows)
        progress = [replica.progress(now_s) for replica in self._replicas]
        under_way = [part for parts in progress for part in parts]
        columns = run_columns(fresh + b"".join(row for row, _ in under_way))
        replica = columns["replica"].astype(np.int64)
        seconds, above = self._run_joules(columns)
        committed = len(replica) - len(under_way)
        above[committed:] *= [share for _, share in under_way]
        timed = np.ones(len(replica), bool)  # rows whose time is another's too do not count it
        timed[committed:] = [i == len(parts) for parts in progress for i in range(1, len(parts) + 1)]
        end_s = columns["start_s"] + seconds
        end_s[committed:] = now_s
        idle = self._awake.until(replica, end_s) - self._awake.until(replica, columns["start_s"])
        ranks, count = self._deployment.gpus_per_replica, len(self._replicas)
        above -= ranks * timed * idle
        self._above_awake_j += np.bincount(replica[:committed], above[:committed], count)
        partial = np.bincount(replica[committed:], above[committed:], count)
        return self._above_awake_j + partial + ranks * self._awake.until(np.arange(count), np.full(count, now_s))

    def _run_joules(self, columns: dict[str, Floats]) -> tuple[Floats, Floats]:
        """Seconds of each run, and joules of all GPUs of its replica."""
        attribution = attribute_stages(columns, self._deployment.stages_at)[0]
        watts = run_watts(columns, self._deployment, attribution, 0)
        return attribution.busy_s, self._deployment.gpus_per_replica * watts * attribution.busy_s
