"""What a sweep says, for programs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sim.sweep.analysis import Analysis, bars


def findings(analysis: Analysis) -> dict[str, Any]:
    """What the report says, for programs; null where there is nothing."""
    first, second = analysis.goal.pareto
    best, other = analysis.best, analysis.runner_up
    return {
        "name": analysis.sweep.name,
        "points": sum(analysis.statuses.values()),
        "statuses": analysis.statuses,
        "goal": {"metric": analysis.goal.metric.key, "maximize": analysis.goal.maximize},
        "best": None if best is None else _record(analysis, best),
        "runner_up": None if other is None else _record(analysis, other),
        "too_close_to_call": analysis.too_close(),
        "lead_over_seeds": analysis.by_chance(),
        "effects": [
            {"key": e.key, "share": e.share, "levels": e.levels, "means": e.means, "counts": e.counts}
            for e in analysis.effects
        ],
        "pareto": {
            "metrics": [first.key, second.key],
            "settings": [_record(analysis, setting) for _, setting in analysis.front.iterrows()],
        },
        "reasons": [{"status": s, "reason": reason, "points": number} for s, reason, number in analysis.reasons],
    }


def _record(analysis: Analysis, setting: pd.Series) -> dict[str, Any]:
    figures = {key: float(setting[key]) for key in analysis.sweep.metrics}
    low, high = bars(setting, analysis.goal.metric)
    return {
        "index": int(setting["first"]),
        "settings": {key: _plain_value(setting[key]) for key in analysis.sweep.keys},
        "figures": {key: value if math.isfinite(value) else None for key, value in figures.items()},
        "goal_interval_90": [low, high] if math.isfinite(low) else None,
        "keeps_limits": bool(setting["keeps"]),
        "bottleneck": str(setting["bottleneck"]),
        "grade": str(setting["grade"]),
    }


def _plain_value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
