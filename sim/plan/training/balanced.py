"""The best plans once more, their layers split so that the slowest stage is as fast as can be.

Megatron-LM splits layers evenly, or counts the embedding and the head as a layer each: so a search goes through those.
Where layers do not divide, or an end of the model weighs unlike a layer, another split may be faster. Each is simulated
before it counts; one whose lower bound is above the best plans already is not.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from hardware_models.errors import ImpossibleError
from sim.plan.training.evaluator import PASSES, Evaluator, Grade
from sim.plan.training.plan import BALANCED, TrainingPlan
from sim.plan.training.search import Found, needs_less


def try_balanced(evaluator: Evaluator, found: Found, top: int) -> int:
    """Add to what a search found; returns how many plans were tried."""
    tried: set[TrainingPlan] = set()
    keeps_all = len(found.best) > top  # an exhaustive search does
    for grade in found.best[:top]:
        plan = _balanced(evaluator, grade.plan)
        if plan is None or plan in tried:
            continue
        tried.add(plan)
        worst_s = found.best[top - 1].step_s if len(found.best) >= top else float("inf")
        _try(evaluator, found, plan, worst_s)
    if tried and not keeps_all:
        del found.best[top:]
    if tried:
        _renew_front(found)
    return len(tried)


def _balanced(evaluator: Evaluator, plan: TrainingPlan) -> TrainingPlan | None:
    """The plan with that split; None where it is the same, or the scenario says how to split."""
    if plan.split is None or plan.pp == 1:
        return None
    other = replace(plan, split=BALANCED)
    try:
        splits = [[part.stop - part.start for part in evaluator.deployer.split(one)] for one in (plan, other)]
    except ImpossibleError:
        return None
    return None if splits[0] == splits[1] else other


def _try(evaluator: Evaluator, found: Found, plan: TrainingPlan, worst_s: float) -> None:
    """Level by level, as long as it may be among the best."""
    bound = evaluator.bound(plan)
    found.bounds[plan] = bound
    fits = bound.peak_bytes <= found.budget_bytes
    grade = Grade(plan, PASSES, bound.step_s, bound.peak_bytes, fits)
    while grade.fits and not grade.refused and grade.level < found.last and grade.step_s < worst_s:
        grade = evaluator.next(grade)
        found.levels[grade.level] += 1
    if grade.refused:
        found.impossible[grade.refused] += 1
    elif not grade.fits:
        found.too_large[plan] = grade.peak_bytes
    elif grade.level < found.last:
        found.left[plan] = grade
    else:
        found.simulated.append(grade)
        insort(found.best, grade, key=lambda one: one.step_s)


def _renew_front(found: Found) -> None:
    members = {grade.plan: grade for grade in (*found.best, *found.front)}
    found.front = []
    for grade in sorted(members.values(), key=lambda one: one.step_s):
        if needs_less(grade, found.front):
            found.front.append(grade)


def balanced_notes(found: Found, tried: int) -> list[str]:
    """What is said of them."""
    if not tried:
        return []
    better = [rank for rank, grade in enumerate(found.best) if grade.plan.split == BALANCED]
    text = f"layers balanced over stages by their seconds were tried on {tried} of the best plans"
    if not better:
        return [f"{text}: none is among the best"]
    winner = found.best[0]
    if winner.plan.split == BALANCED:
        likes = (one for one in found.simulated if replace(one.plan, split=BALANCED) == winner.plan != one.plan)
        if (other := next(likes, None)) is not None:
            more = other.step_s / winner.step_s - 1
            return [f"{text}: the answer's is one; with split {other.plan.split} its step takes {more:.2%} longer"]
    return [f"{text}: {len(better)} of them are among the best"]
