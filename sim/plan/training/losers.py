"""Why plans that were looked at are not the answer: counted by reason, each with the plan that came nearest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hardware_models.intervals import NORMAL_90
from sim.plan.training.bounds import PARTS, Bound
from sim.plan.training.evaluator import PASSES, Grade
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.search import Found


@dataclass(frozen=True, slots=True)
class Reason:
    """Of so many plans."""

    why: str
    plans: int
    nearest: str  # of them
    by: str  # how far that is from the answer


def losers(found: Found) -> list[Reason]:
    """Reasons, the most frequent first."""
    winner, winners = found.best[0], {grade.plan for grade in found.best}
    groups: dict[str, list[tuple[float, TrainingPlan, str]]] = {}
    for plan, peak_bytes in found.too_large.items():
        over = peak_bytes / found.budget_bytes - 1.0
        why = f"do not fit: {_owner(found.bounds[plan])} fill the memory"
        groups.setdefault(why, []).append((over, plan, f"{over:.0%} more memory than there is"))
    fastest = found.bounds[winner.plan]
    known = found.left | {grade.plan: grade for grade in (*found.front, *found.simulated)}
    for plan, grade in known.items():
        if plan in winners:
            continue
        more = grade.step_s / winner.step_s - 1.0
        how = "slower" if grade.level > PASSES and grade.summary else "slower at least"
        why = _slower(grade, winner, found.bounds[plan], fastest)
        groups.setdefault(why, []).append((more, plan, f"{more:.1%} {how}"))
    rows = [
        Reason(why, len(group), nearest.name, by)
        for why, group in groups.items()
        for _, nearest, by in [min(group, key=lambda one: one[0])]
    ]
    refused = [Reason(f"cannot be: {sentence}", count, "", "") for sentence, count in found.impossible.items()]
    return sorted((*rows, *refused), key=lambda row: -row.plans)


def _owner(bound: Bound) -> str:
    return "weights, gradients and optimizer state" if bound.state_bytes > 0.5 * bound.peak_bytes else "activations"


def _slower(grade: Grade, winner: Grade, bound: Bound, fastest: Bound) -> str:
    """The part of the step that is most above the winner's."""
    plan = grade.plan
    if plan.used_gpus < winner.plan.used_gpus:
        return "slower: GPUs left idle" if plan.used_gpus < plan.gpus else "slower: fewer GPUs"
    above = {part: own - best for part, own, best in zip(PARTS, bound.parts_s, fastest.parts_s, strict=True)}
    rest = (grade.step_s - bound.step_s) - (winner.step_s - fastest.step_s)
    above["sends and exchanges between copies, and the bubbles they leave"] = rest
    return f"slower: {max(above, key=lambda part: above[part])}"


def closeness(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, bool]:
    """One standard deviation of the difference of two steps, seconds, and whether that makes it too close to call.

    Each factor errs alike in both plans, so what they share cancels: its deviations are subtracted, and those of
    different factors add up by squares. one, other: summaries.
    """
    deviations = (one["unsure"][name] - other["unsure"][name] for name in one["unsure"])
    sigma_s = sum(value * value for value in deviations) ** 0.5
    return sigma_s, abs(one["step_s"] - other["step_s"]) < NORMAL_90 * sigma_s


def too_close(grades: Iterable[Grade]) -> list[Grade]:
    """Of plans in order, those that may be as fast as the first."""
    first, *others = grades
    return [one for one in others if closeness(one.summary, first.summary)[1]]
