"""A training plan as rows and as JSON: the best ten, the front, why the others lose, and how to launch the winner."""

from __future__ import annotations

from typing import Any

from sim.plan.training.evaluator import Grade
from sim.plan.training.flags import megatron_flags
from sim.plan.training.losers import closeness, losers
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.planner import PlannedTraining

LEVELS = ("passes", "exchanges", "path", "links alike")
KNOWN = "simulated"  # at the last level


def plan_columns(plan: TrainingPlan) -> dict[str, Any]:
    """What a plan chooses, in the words of a scenario."""
    return {
        "plan": plan.name,
        "gpus": plan.gpus,
        "used_gpus": plan.used_gpus,
        "tensor_parallel_size": plan.tp,
        "pipeline_parallel_size": plan.pp,
        "data_parallel_size": plan.dp,
        "context_parallel_size": plan.cp,
        "expert_parallel_size": plan.ep,
        "micro_batch_size": plan.micro_batch,
        "schedule": plan.schedule.name,
        "chunks": plan.chunks,
        "recompute": str(plan.recompute),
        "sharding": str(plan.sharding),
        "sequence_parallel": plan.sequence_parallel,
        "split": plan.split,
    }


def plan_row(grade: Grade, winner: Grade, last: int) -> dict[str, Any]:
    """A plan with its figures; those of plans that were not simulated are None, and step_s is a lower bound.

    last: the level of plans that were.
    """
    row = plan_columns(grade.plan) | {
        "known_by": _known_by(grade.level, last),
        "step_s": grade.step_s,
        "ratio": grade.step_s / winner.step_s,
        "peak_bytes": grade.peak_bytes,
    }
    keys = ("mfu", "pipeline_bubble_fraction", "energy_j_per_step", "tokens_per_s_per_gpu", "usd_per_billion_tokens")
    row |= {key: grade.summary.get(key) for key in keys}
    if grade.level == last:
        row["step_s_90"] = grade.summary["interval_90"]["step_s"]
        sigma_s, close = closeness(grade.summary, winner.summary)
        row |= {"difference_sigma_s": sigma_s, "too_close": close and grade is not winner}
    return row


def _known_by(level: int, last: int) -> str:
    return KNOWN if level == last else LEVELS[level]


def _mapping_json(grade: Grade) -> dict[str, Any] | None:
    """Who placed the nodes, how, and what that gained; None where links are alike."""
    mapping = grade.mapping
    if mapping is None:
        return None
    return {
        "by": mapping.by,
        "nodes": list(mapping.order),
        "proved_optimal": mapping.optimal,
        "closed_form_gain_fraction": mapping.gain_fraction,
        "own_order_step_s": grade.own_order_s,
        "step_s": grade.step_s,
    }


def training_plan_json(found: PlannedTraining) -> dict[str, Any]:
    """Everything about a plan, as plain numbers, strings and None."""
    winner, search = found.winner, found.found
    flags, notes = megatron_flags(winner.plan, found.deployment)
    thriftiest = min(search.best, key=lambda grade: float(grade.summary["energy_j_per_step"]))
    return {
        "schema": 1,
        "question": "training",
        "name": found.scenario.name,
        "space": {
            "plans": found.plans,
            "too_large": len(search.too_large),
            "impossible": sum(search.impossible.values()),
            "bounded_with_exchanges": search.levels[1],
            "longest_paths": search.levels[2],
            "simulated": search.levels[search.last],
            "fixed": found.fixed,
        },
        "budget_bytes": search.budget_bytes,
        "winner": winner.summary,
        "best": [plan_row(grade, winner, search.last) for grade in search.best],
        "front": [plan_row(grade, winner, search.last) for grade in search.front],
        "mapping": _mapping_json(winner),
        "thriftiest": thriftiest.plan.name,
        "own": None if found.own is None else plan_row(found.own, winner, found.own.level),
        "own_fits": None if found.own is None else found.own.fits,
        "losers": [
            {"why": one.why, "plans": one.plans, "nearest": one.nearest, "by": one.by} for one in losers(search)
        ],
        "megatron_flags": flags,
        "megatron_notes": notes,
        "notes": found.notes,
        "scenario": found.best.model_dump(exclude_none=True),
    }


def every_plan(found: PlannedTraining) -> list[dict[str, Any]]:
    """One row a plan of the space that can be: what is known of it, and by what."""
    search, rows = found.found, []
    known = dict(search.left) | {grade.plan: grade for grade in (*search.front, *search.simulated)}
    for plan, bound in search.bounds.items():
        grade = known.get(plan)
        rows.append(
            plan_columns(plan)
            | {
                "known_by": _known_by(grade.level if grade is not None else 0, search.last),
                "step_s": grade.step_s if grade is not None else bound.step_s,
                "peak_bytes": search.too_large.get(plan, grade.peak_bytes if grade is not None else bound.peak_bytes),
                "fits": plan not in search.too_large,
            }
        )
    return rows
