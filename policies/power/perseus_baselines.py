"""What Perseus is measured against: all at the highest clock, one clock for all, one a stage, EnvPipe's envelope.

Zeus (You et al., NSDI 2023, arXiv 2208.06102) searches one setting for all GPUs (ZeusGlobal) or one a stage that
balances forwards (ZeusPerStage), as Perseus's paper sets them up (arXiv 2312.06902, section 6). EnvPipe (Choi et al.,
USENIX ATC 2023) leaves the last stage and the outermost passes of the others at the highest clock, and slows down what
lies within as long as the iteration gets no longer.
"""

from __future__ import annotations

from policies.parallelism.schedules import FORWARD, Slot
from policies.power.perseus_pipeline import Outcome, Pipeline
from policies.power.perseus_profile import PassPoint

NO_LONGER = 1e-9  # relative: sums of the same seconds in another order


def highest_clock(pipeline: Pipeline) -> Outcome:
    """Every pass at its fastest clock."""
    return pipeline.outcome([pipeline.profile(slot).fastest for slot in pipeline.slots])


def zeus_global(pipeline: Pipeline) -> list[Outcome]:
    """One clock for every pass, from the highest down: clocks that all profiles have."""
    at: dict[tuple[str, int], dict[float, PassPoint]] = {
        key: {point.setting: point for point in profile.points} for key, profile in pipeline.passes.items()
    }
    shared = set.intersection(*(set(points) for points in at.values()))
    return [
        pipeline.outcome([at[slot.work, slot.stage][clock] for slot in pipeline.slots])
        for clock in sorted(shared, reverse=True)
    ]


def zeus_per_stage(pipeline: Pipeline) -> list[Outcome]:
    """One clock a stage: for each of the slowest stage's, the lowest of the others' whose forward takes no longer."""
    forwards = {stage: profile for (work, stage), profile in pipeline.passes.items() if work == FORWARD}
    slowest = max(forwards, key=lambda stage: forwards[stage].fastest.seconds)
    found = []
    for target in forwards[slowest].points:
        clock = {stage: profile.slowest_within(target.seconds).setting for stage, profile in forwards.items()}
        found.append(pipeline.outcome([_not_below(pipeline, slot, clock[slot.stage]) for slot in pipeline.slots]))
    return found


def envpipe(pipeline: Pipeline) -> Outcome:
    """The lowest clock of all inner passes, then a lower one of each stage's inner passes while the pipeline fills and
    while it drains, as long as the iteration takes no longer.

    As remembered of EnvPipe, which takes the last stage for the slowest; it may lengthen an iteration, this does not.
    """
    last_stage = max(slot.stage for slot in pipeline.slots)
    last_batch = max(slot.micro_batch for slot in pipeline.slots)
    inner = [
        task
        for task, slot in enumerate(pipeline.slots)
        if slot.stage < last_stage and slot.micro_batch != (0 if slot.work == FORWARD else last_batch)
    ]
    chosen = [pipeline.profile(slot).fastest for slot in pipeline.slots]
    chosen = _lowest(pipeline, chosen, inner)
    for stage in range(last_stage):
        filled = last_stage - stage
        for forward in (True, False):
            bubble = [
                task
                for task in inner
                if (slot := pipeline.slots[task]).stage == stage
                and (slot.work == FORWARD) == forward
                and (slot.micro_batch if forward else last_batch - slot.micro_batch) <= filled
            ]
            chosen = _lowest(pipeline, chosen, bubble)
    return pipeline.outcome(chosen)


def _lowest(pipeline: Pipeline, chosen: list[PassPoint], tasks: list[int]) -> list[PassPoint]:
    """With these passes at the lowest clock that leaves the iteration as long as it is, found by halving; as they were
    where none does. No pass goes below the clock of its least net energy.
    """
    if not tasks:
        return chosen
    limit_s = pipeline.iteration_s([point.seconds for point in chosen]) * (1 + NO_LONGER)
    clocks = sorted({point.setting for task in tasks for point in _worthwhile(pipeline, pipeline.slots[task])})
    low, high, best = 0, len(clocks), chosen
    while low < high:
        middle = (low + high) // 2
        trial = list(chosen)
        for task in tasks:
            trial[task] = _at(pipeline, pipeline.slots[task], clocks[middle])
        if pipeline.iteration_s([point.seconds for point in trial]) <= limit_s:
            best, high = trial, middle
        else:
            low = middle + 1
    return best


def _worthwhile(pipeline: Pipeline, slot: Slot) -> list[PassPoint]:
    """Clocks from the highest down to the one of least net energy."""
    profile = pipeline.profile(slot)
    slowest_s = profile.curve(pipeline.blocking_w).seconds[0]
    return [point for point in profile.points if point.seconds <= slowest_s]


def _at(pipeline: Pipeline, slot: Slot, setting: float) -> PassPoint:
    """The nearest clock of its profile that is not below it, nor below the one of least net energy."""
    points = _worthwhile(pipeline, slot)
    return next((point for point in reversed(points) if point.setting >= setting), points[0])


def _not_below(pipeline: Pipeline, slot: Slot, setting: float) -> PassPoint:
    """Of its profile; the nearest clock above where it has not this one."""
    points = pipeline.profile(slot).points
    return next((point for point in reversed(points) if point.setting >= setting), points[0])
