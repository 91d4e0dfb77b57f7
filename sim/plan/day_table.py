"""A day's plan as JSON."""

from __future__ import annotations

import math
from typing import Any

from sim.plan.day import DayPlan
from sim.plan.fleet import Fleet
from sim.plan.pools import PoolHour
from sim.plan.table import scenario_json, slo_json


def day_json(plan: DayPlan) -> dict[str, Any]:
    """Everything about a day's plan, as plain numbers, strings and None."""
    kwh = plan.energy_kwh
    return {
        "schema": 1,
        "question": "day",
        "name": plan.scenario.name,
        "found": plan.found,
        "slo": slo_json(plan.scenario.slo),
        "demand_per_s": list(plan.demand.rates_per_s),
        "hours_planned": len(plan.demand.rates_per_s),
        "demand_source": plan.demand.source,
        "boot_minutes": plan.options.boot_minutes,
        "start_usd": plan.options.start_usd,
        "reserved_ratio": plan.options.reserved_ratio,
        "types": [
            {
                "name": one.layout.name,
                "node": one.layout.node.name,
                "nodes": one.layout.nodes_a_rung,
                "gpus": one.layout.gpus(1),
                "capacity_per_s": one.capacity_per_s,
                "rated_as_pool_of": one.rungs,
                "usd_per_h": one.usd_per_h,
                "usd_per_million_requests": one.usd_per_h / one.capacity_per_s / 3600 * 1e6,
            }
            for one in plan.rated
        ],
        "left_out": plan.left_out,
        "fleet": fleet_json(plan.fleet),
        "single": fleet_json(plan.single),  # not simulated, as is the next
        "static": fleet_json(plan.static),
        "hours": [_hour(hour) for hour in plan.hours],
        "derated": [
            {
                "type": one.node,
                "before_per_s": one.before_per_s,
                "after_per_s": one.after_per_s,
                "hours": one.hours,
                "why": one.why,
            }
            for one in plan.derated
        ],
        "energy_kwh": kwh,
        "energy_usd": None if kwh is None else kwh * plan.prices.usd_per_kwh,
        "simulations": plan.simulations,
        "prices": plan.prices.sources(),
        "notes": list(plan.notes),
        "scenario": scenario_json(plan.scenario),
    }


def fleet_json(fleet: Fleet | None) -> dict[str, Any] | None:
    """Of one fleet; types that it does not use are left out."""
    if fleet is None:
        return None
    hours = len(fleet.running[0]) if fleet.running else 0
    used = [i for i, row in enumerate(fleet.running) if any(row)]
    return {
        "usd": fleet.usd,
        "bound_usd": fleet.bound_usd,
        "relaxed_usd": fleet.relaxed_usd,
        "gap": fleet.gap,
        "proved": fleet.proved,
        "starts": fleet.starts,
        "running": {fleet.types[i].name: list(fleet.running[i]) for i in used},
        "reserved": {fleet.types[i].name: fleet.reserved[i] for i in used},
        "capacity_per_s": {fleet.types[i].name: [fleet.types[i].at(h) for h in range(hours)] for i in used},
    }


def _hour(hour: PoolHour) -> dict[str, Any]:
    limits = hour.verdict.limits if hour.verdict is not None else ()
    return {
        "type": hour.node,
        "running": hour.rungs,
        "rate_per_s": hour.rate_per_s,
        "hours": list(hour.hours),
        "simulated": hour.verdict is not None,
        "simulated_s": hour.simulated_s,
        "met": hour.met,
        "limits": {limit.key: limit.reached_s if math.isfinite(limit.reached_s) else None for limit in limits},
    }
