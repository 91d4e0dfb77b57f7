"""What each slot of a pipeline waits for, and whether programs are whole and can run to their end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import accumulate, chain

from policies.parallelism.schedules.meeting import Meeting
from policies.parallelism.schedules.schedule import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Programs, Slot


def dependencies(programs: Programs, layer_stages: int | None = None) -> list[list[int]]:
    """For each slot, those whose results it needs; slots are counted device by device, in the order of the programs.

    A forward needs the forward of the stage before; a backward its own forward and the backward of the stage after; the
    weights' gradients the backward of the inputs. That a device runs its slots in order is not repeated here.
    layer_stages: those of the model's layers, where not all are; slots of the others wait for meetings alone.
    """
    slots = list(chain.from_iterable(programs))
    stages = 1 + max((slot.stage for slot in slots), default=0)
    layers = stages if layer_stages is None else layer_stages
    forward: dict[int, int] = {}  # slot that does it, by micro_batch * stages + stage
    backward: dict[int, int] = {}
    for index, (work, micro_batch, stage) in enumerate(slots):
        if work == FORWARD:
            forward[micro_batch * stages + stage] = index
        elif work != BACKWARD_WEIGHT:
            backward[micro_batch * stages + stage] = index
    waits: list[list[int]] = []
    last = layers - 1
    for work, micro_batch, stage in slots:
        key = micro_batch * stages + stage
        if stage > last:
            waits.append([])
        elif work == FORWARD:
            waits.append([forward[key - 1]] if stage else [])
        elif work == BACKWARD_WEIGHT:
            waits.append([backward[key]])
        else:
            waits.append([forward[key], backward[key + 1]] if stage < last else [forward[key]])
    return waits


def join(after: list[list[int]], pairs: Collection[int]) -> None:
    """Let task i and task i + 1 start together and end together, for every i in `pairs`, in lists of what waits.

    The first waits for all that either needs; whoever needs the first's result waits for the second.
    """
    for first in pairs:
        after[first] += [task for task in after[first + 1] if task != first]
    first_of_pair = set(pairs)
    for task, waits in enumerate(after):
        after[task] = [other + 1 if other in first_of_pair and task != other + 1 else other for other in waits]


def owners(programs: Programs) -> list[int]:
    """The device of each slot, counted as `dependencies` does."""
    return [device for device, row in enumerate(programs) for _ in row]


def flaws(programs: Programs, stages: int, micro_batches: int, meetings: Sequence[Meeting] = ()) -> list[str]:
    """Sentences on what is missing, done twice, or never reached; empty for programs that can run.

    stages: of the model's layers; where devices meet, each has a stage more.
    """
    found = _incomplete(programs, stages + (len(programs) if meetings else 0), micro_batches)
    return found or _stuck(programs, stages, meetings)


def _incomplete(programs: Programs, stages: int, micro_batches: int) -> list[str]:
    """Passes that are not there exactly once."""
    counts = Counter(chain.from_iterable(programs))
    found = []
    for micro_batch in range(micro_batches):
        for stage in range(stages):
            forward, whole, of_input, of_weight = (
                counts.pop(Slot(work, micro_batch, stage), 0)
                for work in (FORWARD, BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT)
            )
            if forward != 1:
                found.append(f"micro-batch {micro_batch} goes forward through stage {stage} {forward} times")
            if (whole, of_input, of_weight) not in {(1, 0, 0), (0, 1, 1)}:
                found.append(
                    f"micro-batch {micro_batch} goes backward through stage {stage} {whole} times whole,"
                    f" {of_input} and {of_weight} times by halves"
                )
    return found + [f"{slot} is of no micro-batch or stage" for slot in counts]


def _stuck(programs: Programs, stages: int, meetings: Sequence[Meeting]) -> list[str]:
    """Devices that wait for one another for ever."""
    waits = dependencies(programs, stages)
    for meeting in meetings:
        for target in meeting.targets:
            waits[target] += meeting.sources
    starts = [0, *accumulate(len(row) for row in programs)]
    done = [False] * len(waits)
    at = starts[:-1]
    moved = True
    while moved:
        moved = False
        for device, end in enumerate(starts[1:]):
            first = at[device]
            while at[device] < end and all(done[other] for other in waits[at[device]]):
                done[at[device]] = True
                at[device] += 1
            moved = moved or at[device] > first
    return [
        f"device {device} never comes to {programs[device][at[device] - starts[device]]}"
        for device in range(len(programs))
        if at[device] < starts[device + 1]
    ]
