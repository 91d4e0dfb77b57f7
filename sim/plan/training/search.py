"""Best-first search for the fastest plans: always the plan of the lowest proved bound is looked at more closely.

A plan whose step has been simulated and is still the lowest of all is the next best: nothing that is left can be
faster. Plans beyond memory are dropped as soon as that is known. Once the best are found the search goes on for the
front: plans that take longer, but need less memory, or fewer GPUs, than any that is faster. Those are not simulated:
their seconds are the longest path's, as if nothing shared a link.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hardware_models.errors import ImpossibleError
from sim.plan.training.bounds import Bound
from sim.plan.training.evaluator import PASSES, PATH, SIMULATED, Evaluator, Grade
from sim.plan.training.plan import TrainingPlan

FRONT_STEP = 1.2  # times the best step, with as many GPUs: plans that take longer are of no interest to the front
FRONT_BYTES = 0.75  # of the memory of a plan that is faster: what is worth a longer step

BESIDE = 16  # plans whose exchanges are bounded in the time that one is simulated

Entry = tuple[float, bool, int, Grade]  # bound, whether at the level that is wanted, order in the space
NextLevel = Callable[[Sequence[Grade]], Iterable[Grade]]


@dataclass
class Found:
    """The end of a search."""

    best: list[Grade] = field(default_factory=list)  # the fastest, in order, all simulated
    front: list[Grade] = field(default_factory=list)
    simulated: list[Grade] = field(default_factory=list)
    bounds: dict[TrainingPlan, Bound] = field(default_factory=dict)  # of all plans that can be
    left: dict[TrainingPlan, Grade] = field(default_factory=dict)  # not simulated: the last that was known of them
    too_large: dict[TrainingPlan, float] = field(default_factory=dict)  # that do not fit: bytes of the fullest GPU
    impossible: Counter[str] = field(default_factory=Counter)  # sentence -> plans
    budget_bytes: float = 0.0  # what tensors of one GPU may take
    levels: Counter[int] = field(default_factory=Counter)  # how often each was reached
    last: int = SIMULATED  # the level of what is fully known


class PlanSearch:
    """One search over the plans of a space."""

    def __init__(
        self,
        evaluator: Evaluator,
        plans: Sequence[TrainingPlan],
        *,
        top: int = 10,
        exhaustive: bool = False,
        at_once: int = 1,
        next_level: NextLevel | None = None,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """at_once: plans that `next_level` raises by a level in one go; None: one by one, in this process."""
        self.evaluator, self.plans = evaluator, plans
        self.order = {plan: number for number, plan in enumerate(plans)}
        self.found = Found(last=evaluator.last)
        self._top, self._exhaustive, self._at_once, self._progress = top, exhaustive, at_once, progress
        self._next_level = next_level or (lambda grades: map(evaluator.next, grades))
        self._heap: list[Entry] = []

    def run(self, bounds: dict[TrainingPlan, Bound] | None = None) -> Found:
        """Search to the end; bounds: of all plans that can be, where they are known already."""
        self._begin(self.bounds() if bounds is None else bounds)
        wanted = len(self.plans) if self._exhaustive else self._top
        while self._heap and len(self.found.best) < wanted:
            self._step(lambda _grade: True, self.found.best, self.found.last)
        if self.found.best:
            self._search_front()
        self.found.left |= {grade.plan: grade for _, _, _, grade in self._heap if grade.level < self.found.last}
        return self.found

    def bounds(self) -> dict[TrainingPlan, Bound]:
        """Of every plan that can be."""
        found: dict[TrainingPlan, Bound] = {}
        for number, plan in enumerate(self.plans):
            try:
                found[plan] = self.evaluator.bound(plan)
            except ImpossibleError as error:
                self.found.impossible[str(error)] += 1
            if number % 500 == 0:
                self._progress(f"{number:,} of {len(self.plans):,} plans bounded")
        return found

    def _begin(self, bounds: dict[TrainingPlan, Bound]) -> None:
        self.found.bounds = bounds
        some = next(iter(bounds), None)
        if some is not None:
            self.found.budget_bytes = self.evaluator.deployer.alike(some).budget_bytes
        for plan, bound in bounds.items():
            if bound.peak_bytes > self.found.budget_bytes:
                self.found.too_large[plan] = bound.peak_bytes
            else:
                self._push(Grade(plan, PASSES, bound.step_s, bound.peak_bytes), self.found.last)

    def _step(self, wanted: Callable[[Grade], bool], accepted: list[Grade], level: int) -> None:
        """Accept the lowest if it has been raised to a level; else raise it, and those next to it, by one."""
        batch: list[Grade] = []
        room = float(self._at_once)
        while self._heap and room > 0:
            entry = heapq.heappop(self._heap)
            grade = entry[-1]
            if not wanted(grade):
                self.found.left[grade.plan] = grade
            elif grade.level < level:
                batch.append(grade)
                room -= 1 / BESIDE if grade.level == PASSES and self._at_once > 1 else 1
            elif batch:
                heapq.heappush(self._heap, entry)
                break
            else:
                accepted.append(grade)
                return
        for grade in self._next_level(batch):
            self._take(grade, level)
        done = len(self.found.simulated)
        self._progress(f"{len(self._heap):,} plans left, {done:,} simulated, {len(self.found.best)} settled")

    def _take(self, grade: Grade, level: int) -> None:
        self.found.levels[grade.level] += 1
        if grade.refused:
            self.found.impossible[grade.refused] += 1
        elif not grade.fits:
            self.found.too_large[grade.plan] = grade.peak_bytes
        else:
            if grade.level == self.found.last:
                self.found.simulated.append(grade)
            self._push(grade, level)

    def _push(self, grade: Grade, level: int) -> None:
        heapq.heappush(self._heap, (grade.step_s, grade.level >= level, self.order[grade.plan], grade))

    def _search_front(self) -> None:
        """Go on to slower plans as long as they may need less than all that are faster."""
        front: list[Grade] = []
        for grade in self.found.best:
            if needs_less(grade, front):
                front.append(grade)
        winner = self.found.best[0]
        gpu_s = FRONT_STEP * winner.step_s * winner.plan.gpus  # fewer GPUs may take as much longer

        def wanted(grade: Grade) -> bool:
            return grade.step_s <= gpu_s / grade.plan.gpus and needs_less(grade, front)

        last_s = gpu_s / min(plan.gpus for plan in self.plans)
        while self._heap and self._heap[0][0] <= last_s:
            self._step(wanted, front, PATH)
        self.found.front = front


def needs_less(grade: Grade, faster: Iterable[Grade]) -> bool:
    """Notably less memory, or fewer GPUs, than every plan that is faster."""
    return all(
        grade.peak_bytes < FRONT_BYTES * other.peak_bytes or grade.plan.gpus < other.plan.gpus for other in faster
    )
