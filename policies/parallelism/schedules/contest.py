"""Several ways to plan the same step, and the one whose step is the shortest.

With many micro-batches all of them are tried on a few first: what a way loses while the pipeline fills and drains shows
there, and only the most promising is planned whole, unless it loses more as micro-batches grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeAlias

from policies.parallelism.schedules.planning import Choose, Plan
from policies.parallelism.schedules.schedule import (
    BACKWARD_WEIGHT,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)

Candidate: TypeAlias = Callable[[Plan], Choose]

ROUNDING = 1e-9  # relative, on seconds that are added up
FEW = 3  # micro-batches a device with which a pipeline fills, runs and drains
MANY = 8  # from so many a device on it pays to try the ways on few


def best_plan(
    schedule: PipelineSchedule, devices: int, micro_batches: int, times: SlotTimes, candidates: Sequence[Candidate]
) -> Programs:
    """Programs of the shortest step; of equals, those of the first candidate."""
    order = list(candidates)
    promised_s = [0.0] * len(order)
    if micro_batches > MANY * devices:
        promised_s = _promises_s(schedule, devices, times, order)
        ranks = sorted(range(len(order)), key=promised_s.__getitem__)
        order, promised_s = [order[rank] for rank in ranks], [promised_s[rank] for rank in ranks]
    best: Programs = ()
    best_s, rounding_s = inf, ROUNDING * micro_batches * max(map(max, times.columns_s().values()))
    for candidate, promise_s in zip(order, promised_s, strict=True):
        if best_s <= promise_s + rounding_s:
            break  # nobody behind loses less
        programs, lost = _plan(schedule, devices, micro_batches, times, candidate, best_s)
        if lost < best_s:
            best, best_s = programs, lost
    return best


def _promises_s(schedule: PipelineSchedule, devices: int, times: SlotTimes, order: Sequence[Candidate]) -> list[float]:
    """What each way loses at least on few micro-batches; of one that loses as much as one before it, that much."""
    promised_s = []
    best_s = inf
    for candidate in order:
        best_s = min(best_s, lost := _plan(schedule, devices, FEW * devices, times, candidate, best_s)[1])
        promised_s.append(best_s if lost == inf else lost)
    return promised_s


def in_order(schedule: PipelineSchedule, plan: Plan) -> Choose:
    """Every device of `plan` its next slot of a schedule's programs, as soon as that can start."""
    ahead = [deque(program) for program in schedule.programs(len(plan.rows), plan.micro_batches)]

    def choose(device: int, now_s: float) -> Slot | None:
        if not ahead[device]:
            return None
        slot = ahead[device][0]
        can_start = slot.work == BACKWARD_WEIGHT or plan.ready_s(slot) <= now_s
        return ahead[device].popleft() if can_start else None

    return choose


def _plan(
    schedule: PipelineSchedule,
    devices: int,
    micro_batches: int,
    times: SlotTimes,
    candidate: Candidate,
    at_most_s: float = inf,
) -> tuple[Programs, float]:
    """Programs, and what the longest span has beyond the busiest device's work; infinity if `at_most_s` or more."""
    plan = Plan(schedule, devices, micro_batches, times)
    work_s = max(plan.span_s)
    if not plan.run(candidate(plan), work_s + at_most_s):
        return (), inf
    return plan.programs(), max(plan.span_s) - work_s
