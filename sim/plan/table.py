"""A plan as rows and as JSON: every candidate with what it costs and why it is, or is not, the answer."""

from __future__ import annotations

import math
from typing import Any

from sim.plan.deployments import OBJECTIVES, DeploymentLadder
from sim.plan.frame import Candidate, Trial
from sim.plan.judge import Verdict
from sim.plan.serving import Plan, ladder
from sim.plan.sustainable import Sustainable
from sim.scenario import Scenario, SloSection


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """One dictionary a candidate, the winner first; None where a figure does not apply.

    Keys: candidate, status (winner, meets, misses, dearer, impossible), node, gpu, tensor_parallel_size,
    pipeline_parallel_size, nodes, gpus, replicas, usd_per_h, mean_power_w, energy_usd_per_day, least_nodes (proved),
    simulated (numbers of nodes), untried, limits, grade, reason.
    """
    return [_row(plan, candidate) for candidate in plan.outcome.candidates]


def _row(plan: Plan, candidate: Candidate) -> dict[str, Any]:
    deployment, trial = ladder(candidate), candidate.best or candidate.nearest
    layout, proof = deployment.layout, candidate.proof
    impossible = proof is not None and proof.impossible
    rung = _rung(candidate, trial)
    watts = _watts(deployment, trial)
    return {
        "candidate": candidate.ladder.name,
        "status": _status(plan, candidate),
        "node": layout.node.name,
        "gpu": layout.gpu.name,
        "tensor_parallel_size": layout.tp,
        "pipeline_parallel_size": layout.pp,
        **dict(layout.settings),
        "nodes": None if impossible else rung * layout.nodes_a_rung,
        "gpus": None if impossible else layout.gpus(rung),
        "replicas": None if impossible else rung * layout.replicas_a_rung,
        "usd_per_h": None if impossible else deployment.usd_per_h(rung),
        "mean_power_w": watts,
        "energy_usd_per_day": None if watts is None else plan.prices.energy_usd_per_day(watts),
        "least_nodes": None if proof is None or impossible else proof.first * layout.nodes_a_rung,
        "simulated": sorted(tried * layout.nodes_a_rung for tried in candidate.trials),
        "untried": candidate.untried,
        "limits": _limits(trial.evidence) if trial is not None else {},
        "grade": trial.evidence.summary.get("grade") if trial is not None else None,
        "reason": candidate.lost or (trial.reason if trial is not None else ""),
    }


def _rung(candidate: Candidate, trial: Trial | None) -> int:
    """The rung that did or came nearest; of one that was not simulated, the least that could do."""
    if trial is not None:
        return trial.rung
    return candidate.proof.first if candidate.proof is not None else 1


def _status(plan: Plan, candidate: Candidate) -> str:
    if candidate is plan.winner:
        return "winner"
    if candidate.best is not None:
        return "meets"
    if candidate.nearest is not None:
        return "misses"
    return "impossible" if candidate.proof is not None and candidate.proof.impossible else "dearer"


def _watts(deployment: DeploymentLadder, trial: Trial | None) -> float | None:
    watts = trial.evidence.summary.get("mean_power_w_per_gpu") if trial is not None else None
    return None if watts is None or trial is None else watts * deployment.layout.gpus(trial.rung)


def _limits(verdict: Verdict) -> dict[str, dict[str, Any]]:
    return {
        limit.key: {
            "limit": limit.limit_s,
            "reached": _finite(limit.reached_s),
            "at_least": verdict.stopped_at_s is not None,
            "interval_90": [_finite(limit.low_s), _finite(limit.high_s)],
        }
        for limit in verdict.limits
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """Everything about a plan, as plain numbers, strings and None."""
    return {
        "schema": 1,
        "question": "deployment",
        "name": plan.scenario.name,
        "found": plan.winner is not None,
        "minimize": plan.minimize,
        "unit": OBJECTIVES[plan.minimize],
        "rate_per_s": plan.rate_per_s,
        "requests": plan.requests,
        "seed": plan.scenario.seed,
        "criterion": plan.criterion,
        "slo": slo_json(plan.scenario.slo),
        "simulations": plan.outcome.simulations,
        "exhaustive": plan.outcome.exhaustive,
        "untried": plan.outcome.untried,
        "confirmations": [
            {"seed": seed, "met": verdict.met, "limits": _limits(verdict)} for seed, verdict in plan.confirmations
        ],
        "prices": plan.prices.sources(),
        "notes": list(plan.notes),
        "scenario": scenario_json(plan.best),
        "candidates": plan_rows(plan),
    }


def sustainable_json(scenario: Scenario, found: Sustainable) -> dict[str, Any]:
    """Everything about a highest rate."""
    low, high = found.interval_per_s
    return {
        "schema": 1,
        "question": "capacity",
        "name": scenario.name,
        "found": found.found,
        "criterion": found.criterion,
        "slo": slo_json(scenario.slo),
        "rate_per_s": found.rate_per_s if found.found else None,
        "confidence": found.confidence,
        "interval_per_s": [_finite(low), _finite(high)],
        "tolerance": found.tolerance,
        "safe_per_s": found.safe_per_s,
        "hopeful_per_s": found.hopeful_per_s,
        "proved_per_s": found.proved_per_s,
        "seeds": [
            {"seed": one.seed, "kept_per_s": one.kept_per_s, "broken_per_s": _finite(one.broken_per_s)}
            for one in found.seeds
        ],
        "simulations": found.simulations,
        "ended_early": found.ended_early,
        "proved": found.proved,
        "notes": list(found.notes),
        "limits": _limits(found.at_limit) if found.at_limit is not None else {},
        "bottleneck": found.at_limit.summary.get("bottleneck") if found.at_limit is not None else None,
        "scenario": scenario_json(scenario),
    }


def slo_json(slo: SloSection) -> dict[str, Any]:
    """The SLO's keys that are given."""
    return slo.model_dump(exclude_none=True)


def scenario_json(scenario: Scenario | None) -> dict[str, Any] | None:
    """A scenario's tables."""
    return None if scenario is None else scenario.model_dump(exclude_none=True)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
