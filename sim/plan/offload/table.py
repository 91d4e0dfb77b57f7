"""A plan of an offloaded job as JSON: a row a policy, a row an addition, and what stands in the way of the others."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sim.offload.trainable import Trainable
from sim.plan.offload.outcome import Refusal
from sim.plan.offload.planner import OffloadPlan, Purchase, Ranked, tokens_per_s
from sim.training_scenario import TrainingScenario

TOO_CLOSE = "within the winner's error bars"


def offload_plan_json(found: OffloadPlan) -> dict[str, Any]:
    """Everything about a plan, as plain numbers, strings and None; shares of one, bytes, seconds, USD."""
    trains = isinstance(found.scenario, TrainingScenario)
    rows = [_row(one, found) for one in found.ranked]
    return {
        "schema": 1,
        "question": "offload",
        "job": "training" if trains else "inference",
        "name": found.scenario.name,
        "model": found.scenario.model.config,
        "node": found.scenario.cluster.node,
        "found": bool(rows),
        "policies": rows,
        "refused": [_refused(one) for one in found.refused],
        "largest": _largest(found.largest),
        "largest_by": "" if found.largest_by is None else found.largest_by.policy,
        "purchases": [_purchase(one, found) for one in found.purchases],
        "usd_per_gpu_h": found.usd_per_gpu_h,
        "simulations": found.simulations,
        "notes": found.notes,
        "scenario": None if found.best is None else found.best.model_dump(exclude_none=True),
    }


def _row(one: Ranked, found: OffloadPlan) -> dict[str, Any]:
    summary, best = one.summary, found.ranked[0]
    key = "tokens_per_s" if "tokens_per_s" in summary else "output_throughput"
    low, high = summary["interval_90"][key]
    return {
        "policy": one.outcome.setting.policy,
        "setting": one.outcome.setting.words,
        "batch": one.outcome.batch,
        "tokens_per_s": tokens_per_s(summary),
        "tokens_per_s_90": [low, high],
        "seconds": one.outcome.seconds,
        "model_flop_per_s_per_gpu": summary.get("model_flop_per_s_per_gpu"),
        "too_close": one is not best and high >= best.summary["interval_90"][key][0],
        "bottleneck": summary["bottleneck"],
        "grade": summary["grade"],
    }


def _refused(one: Refusal) -> dict[str, Any]:
    return {
        "policy": one.setting.policy,
        "setting": one.setting.words,
        "tier": one.tier,
        "missing_bytes": one.missing_bytes,
        "reason": one.reason,
    }


def _largest(one: Trainable | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one)


def _purchase(one: Purchase, found: OffloadPlan) -> dict[str, Any]:
    own = tokens_per_s(found.ranked[0].summary) if found.ranked else None
    larger = None
    if one.largest is not None and found.largest is not None:
        larger = one.largest.parameters - found.largest.parameters
    return {
        "kind": one.addition.kind,
        "name": one.addition.name,
        "remark": one.addition.remark,
        "possible": one.addition.scenario is not None,
        "replaces": one.addition.replaces,
        "policy": None if one.setting is None else one.setting.policy,
        "setting": None if one.setting is None else one.setting.words,
        "batch": one.batch,
        "tokens_per_s": one.tokens_per_s,
        "gain_fraction": None if own is None or one.tokens_per_s is None else one.tokens_per_s / own - 1.0,
        "makes_it_run": own is None and one.tokens_per_s is not None,
        "used": one.used,
        "bottleneck": one.bottleneck,
        "largest": _largest(one.largest),
        "largest_gain_parameters": larger,
        "tokens_per_usd_gain_fraction": _per_usd(one, found, own),
    }


def _per_usd(one: Purchase, found: OffloadPlan, own: float | None) -> float | None:
    """By how much a dollar of GPU hours buys more tokens with another GPU; None where a price is not listed."""
    price, before = one.addition.usd_per_gpu_h, found.usd_per_gpu_h
    if price is None or before is None or own is None or one.tokens_per_s is None:
        return None
    return (one.tokens_per_s / price) / (own / before) - 1.0
