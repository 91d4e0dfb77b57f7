"""A number of servers under a policy, rated over its seeds: what it came to, and which criteria that exceeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np

from sim.plan.power.criteria import POINTS, PRIORITIES, Criteria
from sim.plan.power.trial import Answer

COUNTED = {"trips_per_h": "breaker_trips", "brakes_per_h": "brakes", "over_limit_s_per_h": "over_limit_s"}
IMPACTS = tuple(f"{priority}_{point}" for priority in PRIORITIES for point in POINTS)


@dataclass(frozen=True, slots=True)
class Rating:
    """Over seeds; `limited` and `free` have an answer a seed, with the policy and without a limit."""

    policy: str
    servers: int
    seeds: tuple[int, ...]
    limited: tuple[Answer, ...]
    free: tuple[Answer, ...]

    @property
    def refused(self) -> str:
        """Why such a row cannot be; empty where it can."""
        return next((answer.refused for answer in (*self.limited, *self.free) if answer.refused), "")

    @property
    def hours(self) -> float:
        """Simulated, over all seeds."""
        return self.total("hours")

    def total(self, figure: str) -> float:
        """Summed over the seeds."""
        return float(sum(self.values(figure)))

    def values(self, figure: str) -> list[float]:
        """Of each seed."""
        return [answer.figures[figure] for answer in self.limited]

    def impacts(self, name: str) -> list[float]:
        """By how much a latency rises over the same servers without a limit, of each seed; 0.01 is 1 %.

        Empty where no request has the priority.
        """
        pairs = zip(self.values(name), (answer.figures[name] for answer in self.free), strict=True)
        return [slow / fast - 1.0 for slow, fast in pairs if not isnan(slow / fast)]

    def peaks(self, limit_w: float, *, free: bool = False) -> list[float]:
        """The highest reading of each seed over the limit; free: had there been none."""
        return [answer.figures["row_peak_w"] / limit_w for answer in (self.free if free else self.limited)]

    @property
    def reached(self) -> dict[str, float]:
        """By criterion: rates over all seeds, impacts of the worst seed."""
        found = {name: self.total(figure) / self.hours for name, figure in COUNTED.items()}
        return found | {name: max(impacts) for name in IMPACTS if (impacts := self.impacts(name))}

    def broken(self, criteria: Criteria) -> list[str]:
        """Criteria that are exceeded: rates first, then impacts by how far each is beyond what is allowed."""
        if self.refused:
            return []
        reached, allowed = self.reached, criteria.allowed
        over = [name for name in allowed if name in reached and reached[name] > allowed[name]]
        return sorted(over, key=lambda name: -inf if name in COUNTED else -reached[name] / max(allowed[name], 1e-9))

    def safe(self, criteria: Criteria) -> bool:
        """Is it possible, and are all criteria kept?"""
        return not self.refused and not self.broken(criteria)

    def seeds_that_break(self, criteria: Criteria) -> int:
        """How many would not be safe if each were all there is."""
        alone = (
            Rating(self.policy, self.servers, (seed,), (one,), (other,))
            for seed, one, other in zip(self.seeds, self.limited, self.free, strict=True)
        )
        return sum(not rating.safe(criteria) for rating in alone)


def low_high(values: Sequence[float]) -> tuple[float, float] | None:
    """Of seeds; None where there are none."""
    return (float(np.min(values)), float(np.max(values))) if len(values) else None
