"""A pipeline schedule as a task graph: passes on devices, sends between them, activations held."""

from __future__ import annotations

from itertools import chain
from math import inf

from policies.parallelism.schedules.dependencies import dependencies, join, owners
from policies.parallelism.schedules.schedule import (
    BACKWARD,
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)
from policies.task_graph import NO_STREAM, TaskGraph


def pipeline_graph(
    schedule: PipelineSchedule,
    devices: int,
    micro_batches: int,
    times: SlotTimes | None = None,
    *,
    budget_bytes: float = inf,
) -> TaskGraph:
    """One step's passes: a task a slot, in the order of `dependencies`, then a task a send where `send_s` > 0.

    `times` None: one second and one byte for everything, sends free. `budget_bytes` is of a device's activations.
    """
    times = times or SlotTimes.uniform(schedule.all_stages(devices))
    programs = schedule.programs(devices, micro_batches, times)
    graph = TaskGraph()
    waits = dependencies(programs, schedule.stages(devices))
    columns_s = times.columns_s()
    at = iter(waits)
    for device, row in enumerate(programs):
        stream = graph.add_stream(device, "compute")
        graph.add_pool(device, "hbm", budget_bytes)
        for work, micro_batch, stage in row:
            graph.add(stream, columns_s[work][stage], work, next(at), name=f"{work} {micro_batch} stage {stage}")
    if times.send_s > 0 or times.sends_s:
        _add_sends(graph, programs, waits, times)
    for kind, sources, targets in schedule.meetings(programs):
        meeting = graph.add(NO_STREAM, times.meeting_s(kind), kind, sources)
        for target in targets:
            graph.wait_for(target, meeting)
    _hold_activations(graph, programs, times)
    joined = schedule.joined(programs)
    if joined:
        join(graph.after, [task for task, slot in enumerate(chain.from_iterable(programs)) if slot in joined])
    return graph


def _add_sends(graph: TaskGraph, programs: Programs, waits: list[list[int]], times: SlotTimes) -> None:
    """Between a slot and one on another device that needs it, a task on a stream of the sender's."""
    owner = owners(programs)
    slots = list(chain.from_iterable(programs))
    crossing = sorted(
        (source, target) for target, sources in enumerate(waits) for source in sources if owner[source] != owner[target]
    )
    streams = {
        (device, work): graph.add_stream(device, f"send {work}")
        for device in range(len(programs))
        for work in (FORWARD, BACKWARD)
    }
    for source, target in crossing:
        slot = slots[source]
        work = FORWARD if slot.work == FORWARD else BACKWARD
        send_s = times.hop_s(slot.stage + (work == FORWARD))
        send = graph.add(streams[owner[source], work], send_s, f"send {work}", [source], name=_name_of_send(slot))
        graph.after[target] = [send if other == source else other for other in graph.after[target]]


def _name_of_send(slot: Slot) -> str:
    return f"send {slot.work} {slot.micro_batch} of stage {slot.stage}"


def _hold_activations(graph: TaskGraph, programs: Programs, times: SlotTimes) -> None:
    """Taken by a forward; given back by the backward, or a part by each of its halves."""
    task = 0
    for pool, row in enumerate(programs):
        for work, _, stage in row:
            held, kept = times.activation_bytes[stage], times.weight_input_bytes[stage]
            if work == FORWARD:
                graph.acquire(task, pool, held, "activations")
            elif work == BACKWARD:
                graph.release(task, pool, held, "activations")
            elif work == BACKWARD_INPUT:
                graph.release(task, pool, held - kept, "activations")
            elif work == BACKWARD_WEIGHT:
                graph.release(task, pool, kept, "activations")
            task += 1
