"""The plan of a row as JSON: the answer, how sure it is, and every number of servers that was tried."""

from __future__ import annotations

from math import isfinite
from typing import Any

from sim.plan.power.confidence import highest_rate, highest_share, runs_needed
from sim.plan.power.oversubscribe import Oversubscription, Search
from sim.plan.power.rating import COUNTED, IMPACTS, Rating, low_high

QUESTION = "oversubscription"
FEW = 0.05  # share of runs that break a criterion, which it may take many seeds to exclude
WORDS = {
    "trips_per_h": "breaker trips an hour",
    "brakes_per_h": "power brakes an hour",
    "over_limit_s_per_h": "seconds above the limit an hour",
    "high_p50": "rise of high priority's p50",
    "high_p99": "rise of high priority's p99",
    "low_p50": "rise of low priority's p50",
    "low_p99": "rise of low priority's p99",
}


def oversubscription_json(found: Oversubscription) -> dict[str, Any]:
    """Shares are over the servers that the breaker was built for: 0.3 is 30 % more. Pairs are low, high over seeds."""
    answer, criteria = found.answer, found.options.criteria
    return {
        "question": QUESTION,
        "name": found.scenario.name,
        "found": answer is not None,
        "policy": found.own.policy,
        "limit_w": found.limit_w,
        "built_for": found.built_for,
        "servers": None if answer is None else answer.servers,
        "oversubscription": None if answer is None else found.share(answer.servers),
        "bounded": found.own.climbed is not None and found.own.climbed.bounded,
        "binding": binding(found),
        "criteria": {name: value if isfinite(value) else None for name, value in criteria.allowed.items()},
        "seeds": list(next(iter(found.own.ratings.values())).seeds),
        "confirmation": [_row(found, rating) for rating in found.confirmed],
        "sure": None if answer is None else sureness(found, answer),
        "policies": [_policy(found, search) for search in found.searches],
        "rows": [
            _row(found, rating) for search in found.searches for _, rating in sorted(search.ratings.items())
        ],
        "simulations": found.simulations,
        "notes": list(found.notes),
        "slo": found.scenario.slo.model_dump(exclude_none=True),
        "scenario": None if found.best is None else found.best.model_dump(exclude_none=True),
    }  # fmt: skip


def binding(found: Oversubscription) -> dict[str, Any] | None:
    """Which criterion the least unsafe number above the answer breaks, the worst first; None where none was found."""
    for rating in (*[one for one in found.confirmed[::-1] if one is not found.answer], found.own.next_unsafe):
        if rating is not None and not rating.safe(found.options.criteria):
            broken = rating.broken(found.options.criteria)
            reached = {name: rating.reached[name] for name in broken}
            return {"servers": rating.servers, "criteria": broken, "reached": reached, "refused": rating.refused}
    return None


def sureness(found: Oversubscription, rating: Rating) -> dict[str, Any]:
    """What the runs of a rating say of all runs that might be drawn: of brakes, and of runs that break a criterion."""
    confidence, runs = found.options.confidence, len(rating.seeds)
    bad = rating.seeds_that_break(found.options.criteria)
    return {
        "confidence": confidence,
        "fresh": bool(found.confirmed),
        "runs": runs,
        "hours": rating.hours,
        "brakes": int(rating.total("brakes")),
        "most_brakes_per_h": highest_rate(int(rating.total("brakes")), rating.hours, confidence),
        "bad_runs": bad,
        "most_bad_share": highest_share(bad, runs, confidence),
        "runs_for_few": runs_needed(FEW, confidence),
        "few": FEW,
    }


def _policy(found: Oversubscription, search: Search) -> dict[str, Any]:
    best, above = search.best, search.next_unsafe
    first = next(iter(search.ratings.values()))
    return {
        "policy": search.policy,
        "servers": None if best is None else best.servers,
        "oversubscription": None if best is None else found.share(best.servers),
        "next": None if above is None else above.servers,
        "breaks": [] if above is None else above.broken(found.options.criteria),
        "refused": first.refused if search.climbed is None else "",
    }


def _row(found: Oversubscription, rating: Rating) -> dict[str, Any]:
    row: dict[str, Any] = {
        "policy": rating.policy,
        "servers": rating.servers,
        "oversubscription": found.share(rating.servers),
        "seeds": len(rating.seeds),
        "safe": rating.safe(found.options.criteria),
        "breaks": rating.broken(found.options.criteria),
        "refused": rating.refused,
    }
    if rating.refused:
        return row
    row |= {
        "seeds_that_break": rating.seeds_that_break(found.options.criteria),
        "hours": rating.hours,
        "peak_fraction": low_high(rating.peaks(found.limit_w)),
        "peak_fraction_without_limit": low_high(rating.peaks(found.limit_w, free=True)),
        **{figure: rating.total(figure) for figure in COUNTED.values()},
        **{name: rating.total(name) for name in ("low_priority_locked_s", "high_priority_locked_s")},
    }
    return row | {name: low_high(rating.impacts(name)) for name in IMPACTS}
