"""An energy plan as JSON: a row a setting, what it saves, and what was chosen."""

from __future__ import annotations

from typing import Any

from sim.plan.training.energy import EnergyPlan, EnergyPoint


def energy_row(point: EnergyPoint, found: EnergyPlan) -> dict[str, Any]:
    """A setting with its figures."""
    boost = found.boost
    return {
        "by": point.by,
        "setting": point.setting,
        "step_s": point.step_s,
        "slowdown_fraction": point.step_s / boost.step_s - 1.0,
        "gpu_j": point.gpu_j,
        "site_j": point.site_j,
        "gpu_saved_fraction": 1.0 - point.gpu_j / boost.gpu_j,
        "site_saved_fraction": 1.0 - point.site_j / boost.site_j,
        "electricity_usd": point.electricity_usd,
        "gpu_usd": point.gpu_usd,
        "usd": point.usd,
        "on_front": found.on_front(point),
    }


def energy_plan_json(found: EnergyPlan) -> dict[str, Any]:
    """Everything about a plan, as plain numbers, strings and None; seconds, joules and USD of a step."""
    rows = [energy_row(point, found) for point in found.points]
    return {
        "schema": 1,
        "question": "training energy",
        "name": found.scenario.name,
        "step_limit_s": found.limit_s,
        "gpu_usd_per_h": found.gpu_usd_per_h,
        "rows": rows,
        "chosen": rows[found.points.index(found.chosen)],
        "notes": found.notes,
        "scenario": found.best.model_dump(exclude_none=True),
    }
