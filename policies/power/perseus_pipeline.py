"""A pipeline whose passes can each be run at a clock of their own: how long an iteration takes, and what it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import Programs, Slot, dependencies, owners
from policies.power.perseus_profile import PassPoint, PassProfile


@dataclass(frozen=True, slots=True)
class Outcome:
    """One iteration of the whole pipeline."""

    iteration_s: float
    energy_j: float  # of all its GPUs, those that wait included
    clocks: tuple[PassPoint, ...]  # of each pass, device by device in the order of the programs

    def saved_fraction(self, other: Outcome) -> float:
        """Energy saved, as a share of the other's."""
        return 1.0 - self.energy_j / other.energy_j


@dataclass(frozen=True)
class Pipeline:
    """Programs of devices, and of each kind of pass and stage its profile.

    Raises ImpossibleError where a pass has no profile. `send_s` passes between a pass and the one on another device
    that needs it; nobody's energy depends on it but by waiting.
    """

    programs: Programs
    passes: Mapping[tuple[str, int], PassProfile]  # by work and stage
    blocking_w: float  # of a GPU that waits
    gpus_per_stage: int = 1  # which do the same at the same time
    send_s: float = 0.0
    slots: tuple[Slot, ...] = field(init=False)
    before: tuple[tuple[tuple[int, float], ...], ...] = field(init=False)  # of each pass: others, and seconds after
    order: tuple[int, ...] = field(init=False)  # passes, each after those before it

    def __post_init__(self) -> None:
        slots = tuple(chain.from_iterable(self.programs))
        if missing := sorted({(one.work, one.stage) for one in slots} - set(self.passes)):
            raise ImpossibleError(f"the {missing[0][0]} of stage {missing[0][1]} has no profile; give it one")
        if self.blocking_w < 0 or self.gpus_per_stage < 1 or self.send_s < 0:
            raise ImpossibleError(
                f"a pipeline of {self.gpus_per_stage} GPUs a stage that draw {self.blocking_w} W in waiting, sends of"
                f" {self.send_s} s: give a GPU or more, and neither watts nor seconds below 0"
            )
        before = _before(self.programs, self.send_s)
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "before", before)
        object.__setattr__(self, "order", _order(before))

    @property
    def devices(self) -> int:
        """Stages that run at once, each on `gpus_per_stage` GPUs."""
        return len(self.programs)

    def profile(self, slot: Slot) -> PassProfile:
        """Of one pass."""
        return self.passes[slot.work, slot.stage]

    def iteration_s(self, seconds: Sequence[float]) -> float:
        """From the first pass to the end of the last, each taking its seconds."""
        ends = [0.0] * len(seconds)
        for task in self.order:
            start = max((ends[other] + lag for other, lag in self.before[task]), default=0.0)
            ends[task] = start + seconds[task]
        return max(ends, default=0.0)

    def outcome(self, clocks: Sequence[PassPoint], until_s: float = 0.0) -> Outcome:
        """At a clock a pass; who is done waits until the last one is, and at least `until_s`."""
        busy_s = sum(point.seconds for point in clocks)
        taken_s = max(until_s, self.iteration_s([point.seconds for point in clocks]))
        waiting_j = self.blocking_w * (self.devices * taken_s - busy_s)
        energy_j = self.gpus_per_stage * (sum(point.joules for point in clocks) + waiting_j)
        return Outcome(taken_s, energy_j, tuple(clocks))


def _before(programs: Programs, send_s: float) -> tuple[tuple[tuple[int, float], ...], ...]:
    """What each pass waits for: results it needs, and the pass before it on its device."""
    owner = owners(programs)
    found = []
    for task, needed in enumerate(dependencies(programs)):
        lags = {other: send_s if owner[other] != owner[task] else 0.0 for other in needed}
        if task and owner[task - 1] == owner[task]:
            lags.setdefault(task - 1, 0.0)
        found.append(tuple(sorted(lags.items())))
    return tuple(found)


def _order(before: Sequence[Sequence[tuple[int, float]]]) -> tuple[int, ...]:
    """Each pass after those before it; raises ImpossibleError for programs that wait in a circle."""
    waits = [len(others) for others in before]
    followers: list[list[int]] = [[] for _ in before]
    for task, others in enumerate(before):
        for other, _ in others:
            followers[other].append(task)
    order = [task for task, count in enumerate(waits) if not count]
    for task in order:  # grows while it is walked
        for follower in followers[task]:
            waits[follower] -= 1
            if not waits[follower]:
                order.append(follower)
    if len(order) < len(waits):
        raise ImpossibleError("passes of this pipeline wait for one another in a circle; check its programs")
    return tuple(order)
