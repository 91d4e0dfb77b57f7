"""One step of a pipeline on devices and nothing else: makespan, bubbles and peaks, from the schedule's own graph."""

from dataclasses import dataclass

from policies.parallelism.schedules import (
    BACKWARD,
    BACKWARD_INPUT,
    FORWARD,
    SCHEDULES,
    PipelineSchedule,
    Programs,
    SlotTimes,
    pipeline_graph,
)
from sim.graph import max_plus, peak


@dataclass
class Step:
    makespan_s: float
    bubbles_s: list[float]  # of each device: idle between its first start and its last end
    peaks_bytes: list[float]  # of each device's activations, as executed


def make(name: str, **keys: int) -> PipelineSchedule:
    return SCHEDULES[name](**keys)


def times_of(schedule: PipelineSchedule, devices: int, times: tuple[float, float, float], **rest: float) -> SlotTimes:
    forward_s, backward_input_s, backward_weight_s = times
    return SlotTimes.uniform(
        schedule.all_stages(devices),
        forward_s=forward_s,
        backward_input_s=backward_input_s,
        backward_weight_s=backward_weight_s,
        **rest,
    )


def step(schedule: PipelineSchedule, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Step:
    graph = pipeline_graph(schedule, devices, micro_batches, times)
    result = max_plus(graph)
    starts: list[list[float]] = [[] for _ in range(devices)]
    ends: list[list[float]] = [[] for _ in range(devices)]
    busy_s = [0.0] * devices
    for task, index in enumerate(graph.stream):
        stream = graph.streams[index]
        if stream.name == "compute":
            starts[stream.device].append(result.start_s[task])
            ends[stream.device].append(result.end_s[task])
            busy_s[stream.device] += graph.duration_s[task]
    bubbles = [max(e) - min(s) - b for s, e, b in zip(starts, ends, busy_s, strict=True)]
    peaks = [peak(graph, result, pool).used_bytes for pool in range(devices)]
    return Step(result.makespan_s, bubbles, peaks)


def most_held(programs: Programs, kept_fraction: float = 1.0) -> list[float]:
    """Activations that each device holds at once, of which `kept_fraction` stays until the weights' gradients."""
    peaks = []
    for row in programs:
        held = most = 0.0
        for slot in row:
            if slot.work == FORWARD:
                held += 1
            elif slot.work == BACKWARD:
                held -= 1
            else:
                held -= 1 - kept_fraction if slot.work == BACKWARD_INPUT else kept_fraction
            most = max(most, held)
        peaks.append(most)
    return peaks
