"""Watts of one GPU of each pipeline stage over a step, by what it does, from the tasks as they ran.

Passes draw what their operators make of them, at the mean over the pass: exchanges within layers, which alternate with
arithmetic every few milliseconds, are part of it. While a GPU has no pass to run, exchanges between copies keep
kernels running without arithmetic; else it waits, as it does for the host: with a process, and nothing to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware_models.power import Activity, PowerModel, power_model
from policies.parallelism.schedules import FORWARD, Slot
from policies.parallelism.schedules import meeting as meetings
from policies.task_graph import NO_STREAM
from sim.power.series import PowerSeries
from sim.training.power_limit import pass_watts, waiting_watts
from sim.training.simulate import TrainingRun
from sim.training.step_kinds import GATHER, OPTIMIZER, REDUCE, TIED

Floats = NDArray[np.float64]
PARTS = ("passes", "optimizer", "exchanges", "waiting")
PASS, UPDATE, EXCHANGE, WAITING = range(len(PARTS))
EXCHANGES = {GATHER, REDUCE, TIED, meetings.BROADCAST, meetings.AGREE, meetings.REDUCE}
NO_TIME = 1e-9  # of a step: what is shorter is rounding


@dataclass(frozen=True, slots=True)
class GpuPower:
    """One GPU of a stage, from the start of a step to that of the next."""

    series: PowerSeries
    joules: Floats  # by PARTS


class Stretch(NamedTuple):
    """What a GPU does from one instant to another."""

    start_s: float
    end_s: float
    watts: float
    part: int
    ahead: bool = False  # gathers weights for a step's first forward


def gpu_power(run: TrainingRun) -> list[GpuPower]:
    """A GPU of each stage."""
    deployment = run.deployment
    waiting_w = waiting_watts(deployment.gpu, deployment.limits)
    return [_over_step(_repeating(run, one), run.step_s, waiting_w) for one in _stretches(run)]


def _stretches(run: TrainingRun) -> list[list[Stretch]]:
    """Of each stage's GPU, all but waiting; some are at once."""
    deployment, graph, times = run.deployment, run.graph, run.times
    model, limit_w = power_model(deployment.gpu), deployment.limits.watts
    exchange_w = float(model.watts(Activity(1.0, 0.0, 0.0), deployment.clock, limit_w))
    pass_w = _pass_watts(run)
    found: list[list[Stretch]] = [[] for _ in range(deployment.layout.pp)]
    first = [min((times.start_s[task] for task in tasks), default=0.0) for tasks in _forwards(run)]
    for task, (stream, kind) in enumerate(zip(graph.stream, graph.kind, strict=True)):
        start_s, end_s = times.start_s[task], times.end_s[task]
        if stream == NO_STREAM or end_s <= start_s:
            continue
        device = graph.streams[stream].device
        slot = run.exchanges.slots.get(task)
        if slot is not None:
            found[device].append(Stretch(start_s, end_s, pass_w[device, slot], PASS))
        elif kind == OPTIMIZER:
            found[device].append(Stretch(start_s, end_s, _update_watts(run, model, device), UPDATE))
        elif kind in EXCHANGES:
            ahead = kind == GATHER and end_s <= first[device]
            for one in run.exchanges.tied_devices if kind == TIED else (device,):
                found[one].append(Stretch(start_s, end_s, exchange_w, EXCHANGE, ahead))
    return found


def _forwards(run: TrainingRun) -> list[list[int]]:
    """Tasks of forwards, by device."""
    found: list[list[int]] = [[] for _ in range(run.deployment.layout.pp)]
    for task, slot in run.exchanges.slots.items():
        if slot.work == FORWARD:
            found[run.graph.streams[run.graph.stream[task]].device].append(task)
    return found


def _pass_watts(run: TrainingRun) -> dict[tuple[int, Slot], float]:
    """Of each pass on each device, by the seconds it took: in a pair or on a slow GPU these are others than priced."""
    deployment, graph = run.deployment, run.graph
    seconds: dict[tuple[int, Slot], float] = {}
    for task, slot in run.exchanges.slots.items():
        key = graph.streams[graph.stream[task]].device, slot
        seconds[key] = seconds.get(key, 0.0) + graph.duration_s[task]
    known: dict[tuple[str, int, float, float], float] = {}
    found = {}
    for key, lasted in seconds.items():
        slot = key[1]
        clock = deployment.clock if run.clocks is None else run.clocks.clock(slot)
        kind = slot.work, slot.stage, lasted, clock
        if kind not in known and lasted > 0.0:
            own = deployment.stages[slot.stage].by_pass()[slot.work] if run.clocks is None else run.clocks.spent(slot)
            known[kind] = pass_watts(own, lasted, deployment.gpu, deployment.limits.watts, clock)
        found[key] = known.get(kind, 0.0)
    return found


def _update_watts(run: TrainingRun, model: PowerModel, device: int) -> float:
    """Of a pass over memory."""
    seconds = run.exchanges.optimizer_s(device)
    whole_bytes = seconds * run.deployment.gpu.memory_bandwidth_bytes_per_s
    share = run.exchanges.optimizer_bytes(device) / whole_bytes if whole_bytes else 0.0
    activity = Activity(1.0, 0.0, min(1.0, share))
    return float(model.watts(activity, run.deployment.clock, run.deployment.limits.watts))


def _repeating(run: TrainingRun, stretches: list[Stretch]) -> list[Stretch]:
    """Within a step that others come before and after: the same where devices end theirs together; else each device's
    own step, from the gathering of its weights right before its first forward, cut where the next one begins.
    """
    if not run.deployment.schedule.post_validates:
        return stretches
    until_s = min((one.start_s for one in stretches if one.part == PASS), default=0.0)
    placed = []
    for one in sorted(stretches, key=lambda one: one.start_s, reverse=True):
        start_s, lasted_s = one.start_s, one.end_s - one.start_s
        if one.ahead:
            start_s = until_s = until_s - lasted_s
        start_s %= run.step_s
        placed.append(one._replace(start_s=start_s, end_s=min(start_s + lasted_s, run.step_s)))
        if start_s + lasted_s > run.step_s:
            placed.append(one._replace(start_s=0.0, end_s=start_s + lasted_s - run.step_s))
    return placed


def _over_step(stretches: list[Stretch], step_s: float, waiting_w: float) -> GpuPower:
    """From 0 to the end of the step, without gaps: waiting, exchanges over it, its own work over both."""
    edges = np.unique([0.0, step_s, *(edge for one in stretches for edge in one[:2] if 0.0 < edge < step_s)])
    apart = np.diff(edges) > NO_TIME * step_s
    edges = np.append(edges[:-1][apart], step_s)
    edges[0] = 0.0
    middle = 0.5 * (edges[:-1] + edges[1:])
    watts, part = np.full(len(middle), waiting_w), np.full(len(middle), WAITING)
    for of_work in (False, True):
        chosen = sorted(one for one in stretches if (one.part != EXCHANGE) is of_work)
        if not chosen:
            continue
        starts, ends, drawn, parts = (np.array(column) for column in list(zip(*chosen, strict=True))[:4])
        last = np.searchsorted(starts, middle, side="right") - 1
        inside = (last >= 0) & (middle < np.maximum.accumulate(ends)[last])
        watts[inside], part[inside] = drawn[last[inside]], parts[last[inside]]
    joules = np.asarray(np.bincount(part, watts * np.diff(edges), len(PARTS)), float)
    changes = np.concatenate([[True], watts[1:] != watts[:-1]])
    return GpuPower(PowerSeries.of(np.append(edges[:-1][changes], step_s), watts[changes]), joules)
