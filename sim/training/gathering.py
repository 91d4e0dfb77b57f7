"""Passes whose weights copies share out: each part's come together before it, and its gradients go after it.

A part is a layer (FSDP, arXiv 2304.11277), or one of its matrices (DeepSpeed's ZeRO-3, with a hook a module).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hardware_models.training_framework import WeightGathering
from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Slot
from policies.task_graph import TaskGraph
from sim.training.step_kinds import LAUNCH


class Weights(NamedTuple):
    """Parameters of a stage, or of a part of it; experts: those of experts among them."""

    parameters: float
    experts: float


class Part(NamedTuple):
    """Of a pass."""

    seconds: float
    gathers: bool
    reduces: bool


Gather = Callable[[list[int], bool], list[int]]  # tasks that make a part whole, after some; was it just updated?
Reduce = Callable[[int], int]  # the task that scatters a part's gradients, after its pass


@dataclass(slots=True)
class GatheredPasses:
    """Writes such passes into a graph."""

    profile: WeightGathering
    ranks: int
    ahead: int  # parts gathered before the one that computes
    recomputes: bool  # whole layers, before their backward
    _computed: dict[int, list[int]] = field(default_factory=dict)  # stream -> its parts in order
    _begun: set[int] = field(default_factory=set)  # stages whose first forward has gathered

    @property
    def pieces(self) -> int:
        """Parts of a layer."""
        return self.profile.collectives_per_layer

    @property
    def host_s(self) -> float:
        """Of launching one collective, while the device has nothing to do."""
        return self.ranks * self.profile.host_s_per_peer

    def parts(self, slot: Slot, seconds: float, count: int, layer_parameters: float) -> Iterator[Part]:
        """Of a pass, in order; those of a forward computed again need their weights twice, if they are not kept."""
        kept = self.profile.kept_parameters
        twice = self.recomputes and slot.work == BACKWARD and kept is not None and 2.0 * layer_parameters > kept
        each = seconds / count / (2 if twice else 1)
        gathers, reduces = slot.work != BACKWARD_WEIGHT, slot.work not in (FORWARD, BACKWARD_INPUT)
        for _ in range(count):
            if twice:
                yield Part(each, True, False)
            yield Part(each, gathers, reduces)

    def write(
        self, graph: TaskGraph, compute: int, slot: Slot, name: str, parts: Iterator[Part], gather: Gather,
        reduce: Reduce,
    ) -> tuple[list[int], list[int]]:  # fmt: skip
        """The pass's tasks and its reductions, each behind what was gathered ahead of it."""
        done = self._computed.setdefault(compute, [])
        fresh = slot.work == FORWARD and slot.stage not in self._begun
        self._begun.add(slot.stage)
        tasks: list[int] = []
        reduced: list[int] = []
        unreduced: list[int] = []
        for part in parts:
            while not self.ahead and unreduced:
                reduced.append(reduce(unreduced.pop(0)))
            waits = gather([done[-1 - self.ahead]] if len(done) > self.ahead else [], fresh) if part.gathers else []
            while len(unreduced) >= max(1, self.ahead):
                reduced.append(reduce(unreduced.pop(0)))
            if self.profile.synchronizes:
                waits = [*waits, *reduced[-1:]]
            if self.host_s and part.gathers:
                waits = [graph.add(compute, self.host_s, LAUNCH, waits)]
            done.append(graph.add(compute, part.seconds, slot.work, waits, name=name))
            tasks.append(done[-1])
            if part.reduces:
                unreduced.append(done[-1])
        return tasks, reduced + [reduce(task) for task in unreduced]
