"""A pipeline whose passes can each be run at a clock of their own: how long an iteration takes, and what it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain

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
    that needs it, or what `sends_s` has of those two devices; nobody's energy depends on it but by waiting.
    """

    programs: Programs
    passes: Mapping[tuple[str, int], PassProfile]  # by work and stage
    blocking_w: float  # of a GPU that waits
    gpus_per_stage: int = 1  # which do the same at the same time
    send_s: float = 0.0
    sends_s: Mapping[tuple[int, int], float] = field(default_factory=dict)  # from one device to another
    sends_block: bool = False  # does a device stand still until what it sends has gone?
    tails_s: tuple[float, ...] = ()  # of each device, between its last pass and the end of the iteration; none: 0
    slots: tuple[Slot, ...] = field(init=False)
    before: tuple[tuple[tuple[int, float], ...], ...] = field(init=False)  # of each pass: others, and seconds after
    order: tuple[int, ...] = field(init=False)  # passes, each after those before it
    last: tuple[tuple[int, float], ...] = field(init=False)  # the last pass of each device, and its tail

    def __post_init__(self) -> None:
        slots = tuple(chain.from_iterable(self.programs))
        if missing := sorted({(one.work, one.stage) for one in slots} - set(self.passes)):
            raise ImpossibleError(f"the {missing[0][0]} of stage {missing[0][1]} has no profile; give it one")
        if self.blocking_w < 0 or self.gpus_per_stage < 1 or self.send_s < 0:
            raise ImpossibleError(
                f"a pipeline of {self.gpus_per_stage} GPUs a stage that draw {self.blocking_w} W in waiting, sends of"
                f" {self.send_s} s: give a GPU or more, and neither watts nor seconds below 0"
            )
        before = _before(self.programs, self.hop_s, blocks=self.sends_block)
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "before", before)
        object.__setattr__(self, "order", _order(before))
        ends = accumulate(len(program) for program in self.programs)
        tails_s = self.tails_s or (0.0,) * len(self.programs)
        last = tuple((end - 1, tail_s) for end, tail_s in zip(ends, tails_s, strict=True) if tail_s > 0)
        object.__setattr__(self, "last", last)

    @property
    def devices(self) -> int:
        """Stages that run at once, each on `gpus_per_stage` GPUs."""
        return len(self.programs)

    def hop_s(self, source: int, target: int) -> float:
        """Seconds of a send from one device to another."""
        return self.sends_s.get((source, target), self.send_s)

    def profile(self, slot: Slot) -> PassProfile:
        """Of one pass."""
        return self.passes[slot.work, slot.stage]

    def iteration_s(self, seconds: Sequence[float]) -> float:
        """From the first pass to the end of the last, each taking its seconds; or of a device's tail."""
        ends = self.ends_s(seconds)
        return max((*ends, *(ends[task] + tail_s for task, tail_s in self.last)), default=0.0)

    def ends_s(self, seconds: Sequence[float]) -> list[float]:
        """When each pass ends, as early as it can."""
        ends = [0.0] * len(seconds)
        for task in self.order:
            start = max((ends[other] + lag for other, lag in self.before[task]), default=0.0)
            ends[task] = start + seconds[task]
        return ends

    def kept_apart(self) -> Pipeline:
        """With tails that keep every device's own span, from its first pass to its last, as short as the longest of
        them is now: where steps overlap, the next one begins on each device when this one has ended there.
        """
        fastest = [self.profile(slot).fastest.seconds for slot in self.slots]
        ends_s, first = self.ends_s(fastest), 0
        starts_s, own_s = [], []
        for program in self.programs:
            starts_s.append(ends_s[first] - fastest[first])
            first += len(program)
            own_s.append(ends_s[first - 1])
        longest_s = max(end - start for start, end in zip(starts_s, own_s, strict=True))
        tails_s = tuple(max(0.0, max(own_s) - start - longest_s) for start in starts_s)
        return replace(self, tails_s=tails_s)

    def outcome(self, clocks: Sequence[PassPoint], until_s: float = 0.0) -> Outcome:
        """At a clock a pass; who is done waits until the last one is, and at least `until_s`."""
        busy_s = sum(point.seconds for point in clocks)
        taken_s = max(until_s, self.iteration_s([point.seconds for point in clocks]))
        waiting_j = self.blocking_w * (self.devices * taken_s - busy_s)
        energy_j = self.gpus_per_stage * (sum(point.joules for point in clocks) + waiting_j)
        return Outcome(taken_s, energy_j, tuple(clocks))


def _before(
    programs: Programs, hop_s: Callable[[int, int], float], *, blocks: bool
) -> tuple[tuple[tuple[int, float], ...], ...]:
    """What each pass waits for: results it needs, and the pass before on its device, with its sends if they block."""
    owner = owners(programs)
    needs = dependencies(programs)
    gone_s = [0.0] * len(needs)  # until what a pass sends has gone
    found = []
    for task, needed in enumerate(needs):
        lags = {other: hop_s(owner[other], owner[task]) if owner[other] != owner[task] else 0.0 for other in needed}
        for other, lag_s in lags.items():
            gone_s[other] = max(gone_s[other], lag_s)
        if task and owner[task - 1] == owner[task]:
            lags.setdefault(task - 1, 0.0)
        found.append(lags)
    if blocks:
        for task, lags in enumerate(found):
            if task - 1 in lags and owner[task - 1] == owner[task]:
                lags[task - 1] = gone_s[task - 1]
    return tuple(tuple(sorted(lags.items())) for lags in found)


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
