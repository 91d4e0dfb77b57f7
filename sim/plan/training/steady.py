"""A step of very many micro-batches, whose pipeline repeats itself: evaluated without building or walking all of it.

1F1B and interleaved pipelines repeat a block of passes between warm-up and cool-down. In the algebra of max and plus a
block's ends are a linear map of the ends of the block before. So once all ends of a block are those of an earlier block
plus one and the same number of seconds, they will be so again after as many blocks, for ever (Baccelli et al.,
Synchronization and Linearity, 1992, section 3.7): whole periods are then skipped. Times are whole multiples of TICK_S,
so that "the same" is exact; each duration is off by half of one at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from policies.parallelism.schedules import PipelineSchedule
from policies.parallelism.schedules.interleaved import Interleaved
from policies.parallelism.schedules.one_forward_one_backward import OneForwardOneBackward
from sim.graph.order import NOTHING, Compiled
from sim.plan.training.structure import NOTHING as NO_NAME
from sim.plan.training.structure import PASS, SENDS, StepStructure, UnlikeError
from sim.training.deployment import TrainingDeployment
from sim.training.step_kinds import GATHER, REDUCE

TICK_S = 2.0**-46
BLOCKS = 3  # built, beside the first and the last, whose passes may be cut into parts for exchanges


@dataclass(frozen=True, slots=True)
class Repetition:
    """How a schedule repeats itself."""

    slots: int  # of each device, in a block
    micro_batches: int  # of a block
    warm_up: tuple[int, ...]  # slots of each device before its first block
    built: int  # micro-batches of the shortest step with all that is needed

    @classmethod
    def of(cls, schedule: PipelineSchedule, devices: int) -> Repetition | None:
        """None where a schedule does not."""
        if isinstance(schedule, OneForwardOneBackward):
            warm_up = tuple(devices - device - 1 + 2 for device in range(devices))
            return cls(2, 1, warm_up, devices - 1 + BLOCKS + 2)
        if isinstance(schedule, Interleaved):
            block = 2 * devices * schedule.chunks
            before = [(schedule.chunks - 1) * devices + 2 * (devices - device - 1) for device in range(devices)]
            groups = -(-before[0] // (devices * schedule.chunks)) + BLOCKS + 2
            # a device's blocks begin a pair of passes later than those of the one before: so none waits for a later one
            warm_up = tuple(one + 2 * device + block for device, one in enumerate(before))
            return cls(block, devices, warm_up, devices * groups)
        return None


def repeats(deployment: TrainingDeployment) -> Repetition | None:
    """How a step repeats itself, if it has many more micro-batches than must be built."""
    found = Repetition.of(deployment.schedule, deployment.layout.pp)
    many = deployment.layout.micro_batches
    if found is None or many < 2 * found.built or (many - found.built) % found.micro_batches:
        return None
    return found


def shortened(deployment: TrainingDeployment, repetition: Repetition) -> TrainingDeployment:
    """The same deployment with as many micro-batches as are built."""
    layout = deployment.layout
    batch = repetition.built * layout.micro_batch * layout.dp
    return replace(deployment, layout=replace(layout, global_batch=batch))


@dataclass(frozen=True, slots=True)
class _Place:
    """A task of a block, or a join of several that one waits for, by what it waits for."""

    code: int  # of its duration; NOTHING: none
    waits: tuple[tuple[bool, int], tuple[bool, int]]  # (in the block before, place there); NOTHING: on nobody


class SteadyStep:
    """A structure taken apart: what comes before its blocks, the block, and what comes after."""

    def __init__(self, structure: StepStructure, repetition: Repetition) -> None:
        """Raises UnlikeError for a structure whose blocks are not alike."""
        self.structure, self.repetition = structure, repetition
        self._compiled: Compiled = structure.compiled
        labels = _Labels(structure, repetition)
        self._label, self._id = labels.of_places()
        self._task_of = labels.task_of_join
        order = sorted(range(len(self._compiled.places)), key=lambda at: self._label[self._compiled.places[at]])
        self._steps: list[list[tuple[int, int, int]]] = [[] for _ in range(BLOCKS + 2)]  # warm-up, blocks, cool-down
        for at in order:
            place = self._compiled.places[at]
            self._steps[self._label[place] + 1].append((place, self._compiled.first[at], self._compiled.second[at]))
        one, two = (self._block(number) for number in (BLOCKS - 2, BLOCKS - 1))
        if sorted(one.items()) != sorted(two.items()):
            raise UnlikeError("the blocks of a step are not alike")
        self._check_order()
        self._write_block(two)

    def step_s(self, deployment: TrainingDeployment) -> float:
        """Seconds of the step of a deployment, however many micro-batches, as if nothing shared a link."""
        table = [round(seconds / TICK_S) for seconds in self.structure.table_s(deployment)]
        extra = (deployment.layout.micro_batches - self.repetition.built) // self.repetition.micro_batches
        padded = [table[code] for code in self.structure.codes] + [0] * self._compiled.joins
        ends = [0] * (len(padded) + 1)
        for steps in self._steps[:2]:  # warm-up, first block
            _walk(steps, ends, padded)
        block = [ends[place] for place in self._places_of(0)]
        block = self._repeat(block, [table[code] if code != NOTHING else 0 for code in self._codes], BLOCKS - 1 + extra)
        for place, end in zip(self._places_of(BLOCKS - 1), block, strict=True):
            ends[place] = end
        _walk(self._steps[-1], ends, padded)
        return max(ends) * TICK_S

    def _repeat(self, block: list[int], durations: list[int], times: int) -> list[int]:
        """Ends of the block so many blocks later."""
        seen: dict[tuple[int, ...], tuple[int, int]] = {}
        done = 0
        while done < times:
            start = block[0]
            shape = tuple(end - start for end in block)
            if shape in seen:
                earlier, started = seen[shape]
                periods = (times - done) // (done - earlier)
                if periods:
                    shift = periods * (start - started)
                    block = [end + shift for end in block]
                    done += periods * (done - earlier)
                    seen.clear()
                    continue
            else:
                seen[shape] = (done, start)
            block = self._next(block, durations)
            done += 1
        return block

    def _next(self, before: list[int], durations: list[int]) -> list[int]:
        both = [*before, *before, 0]  # the block before, this one, and nobody
        for here, one, other, at in self._rows:
            earlier, later = both[one], both[other]
            both[here] = (later if later > earlier else earlier) + durations[at]
        return both[len(before) : -1]

    def _block(self, number: int) -> dict[Any, _Place]:
        """What each place of a block waits for, by the place's own name."""
        found = {}
        for place, *pair in self._steps[number + 1]:
            waits = []
            for other in pair:
                if other == NOTHING:
                    waits.append((False, NOTHING))
                elif self._label[other] in (number, number - 1):
                    waits.append((self._label[other] < number, self._id[other]))
                elif self._label[other] < 0 or self._is_long_done(place, other):
                    waits.append((False, NOTHING))
                else:
                    raise UnlikeError("a block waits for more than the one before")
            code = self.structure.codes[place] if place < self._compiled.tasks else NOTHING
            found[self._id[place]] = _Place(code, (waits[0], waits[1]))
        return found

    def _is_long_done(self, place: int, other: int) -> bool:
        """Does a task wait anyway for a later one on the other's stream?"""
        graph, task = self.structure.graph, self._task_of.get(place, place)
        if other >= len(graph) or graph.stream[other] < 0:
            return False
        of_stream = graph.stream[other]
        return graph.stream[task] == of_stream or any(
            one > other and graph.stream[one] == of_stream for one in graph.after[task]
        )

    def _write_block(self, block: dict[Any, _Place]) -> None:
        """The block as rows of numbers, in an order in which it can be evaluated."""
        names = [self._id[place] for place, *_ in self._steps[BLOCKS]]
        at = {name: number for number, name in enumerate(names)}
        size = len(names)

        def where(wait: tuple[bool, Any]) -> int:
            before, name = wait
            return 2 * size if name == NOTHING else at[name] + (0 if before else size)

        self._codes = [block[name].code for name in names]
        self._rows = [
            (at[name] + size, where(block[name].waits[0]), where(block[name].waits[1]), at[name]) for name in names
        ]
        self._order = names

    def _places_of(self, number: int) -> list[int]:
        """Places of one built block, in the order of the rows."""
        place_of = {self._id[place]: place for place, *_ in self._steps[number + 1]}
        return [place_of[name] for name in self._order]

    def _check_order(self) -> None:
        """What comes after the blocks may wait for the last of them, and for what came before all; no more."""
        for place, *pair in chain.from_iterable(self._steps):
            for other in pair:
                if other != NOTHING and self._label[other] > self._label[place]:
                    raise UnlikeError("a block waits for a later one")
        for place, *pair in self._steps[-1]:
            for other in pair:
                early = other != NOTHING and 0 <= self._label[other] < BLOCKS - 1
                if early and not self._is_long_done(place, other):
                    raise UnlikeError("what comes after the blocks waits for more than the last of them")


class _Labels:
    """Which block each task is of (-1: before them, BLOCKS: after them), and a name that it has in every block."""

    def __init__(self, structure: StepStructure, repetition: Repetition) -> None:
        self.structure, self.repetition = structure, repetition
        self.graph = structure.graph
        self.task_of_join: dict[int, int] = {}
        self.slot: dict[int, tuple[int, int]] = {}  # task -> (device, position) of the slot that it belongs to

    def of_places(self) -> tuple[list[int], list[Any]]:
        """Both, of every place: tasks, then joins."""
        self._find_slots()
        compiled = self.structure.compiled
        label = [self._label(task) for task in range(compiled.tasks)] + [0] * compiled.joins
        count: dict[Any, int] = {}
        names: list[Any] = []
        for task in range(compiled.tasks):
            device, position = self.slot.get(task, (-1, task))
            offset = (position - self.repetition.warm_up[device]) % self.repetition.slots if device >= 0 else task
            key = (label[task], device, offset)
            count[key] = count.get(key, -1) + 1
            names.append((device, offset, count[key]))
        names += [None] * compiled.joins
        pending: list[int] = []
        for place in compiled.places:  # joins come right before the task that they are for
            if place >= compiled.tasks:
                pending.append(place)
                continue
            for number, join in enumerate(pending):
                label[join], names[join] = label[place], (*names[place], number)
                self.task_of_join[join] = place
            pending.clear()
        return label, names

    def _find_slots(self) -> None:
        structure, graph = self.structure, self.graph
        index = 0
        for device, program in enumerate(structure.programs):
            for position, _ in enumerate(program):
                for task in range(structure.first[index], structure.last[index] + 1):
                    if structure.names_of_tasks[task][0] == PASS:
                        self.slot[task] = (device, position)
                        for other in graph.after[task]:
                            if graph.kind[other] == GATHER and structure.names_of_tasks[other][0] == GATHER:
                                self.slot.setdefault(other, (device, position))
                index += 1
        for task, kind in enumerate(graph.kind):
            follows = kind in SENDS or kind == REDUCE or structure.names_of_tasks[task][0] == NO_NAME
            if task not in self.slot and follows and graph.stream[task] >= 0 and graph.after[task]:
                source = self.slot.get(graph.after[task][0])
                if source is not None:
                    self.slot[task] = source

    def _label(self, task: int) -> int:
        """By position; of tasks of no slot by whether anything is before them."""
        if task not in self.slot:
            return -1 if not self._is_last(task) else BLOCKS
        device, position = self.slot[task]
        past = position - self.repetition.warm_up[device]
        return min(past // self.repetition.slots, BLOCKS) if past >= 0 else -1

    def _is_last(self, task: int) -> bool:
        """Does a task of no slot come after the passes?"""
        return any(other in self.slot for other in self.graph.after[task]) or any(
            self._is_last(other) for other in self.graph.after[task] if other not in self.slot
        )


def _walk(steps: list[tuple[int, int, int]], ends: list[int], durations: list[int]) -> None:
    for place, one, other in steps:
        earlier, later = ends[one], ends[other]
        ends[place] = (later if later > earlier else earlier) + durations[place]
