"""Figures of how far predictions are off: size, direction, order and honesty of the errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from calibration.fit.kernel import Floats
from calibration.fit.robust import held_out
from calibration.report.judge import Judged

SHORTEST_SWEEP = 5  # different values of the one size that varies


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Of one kernel, format, benchmark and part; errors are shares of the measured time."""

    device: str
    operator: str
    key: str
    origin: str
    part: str
    points: int
    median: float  # of the absolute error
    p90: float
    bias: float  # median of the signed error: predicted over measured less 1
    coverage: float  # share of points inside the 90 % interval
    rank: float  # mean Spearman correlation within sweeps; NaN where nothing was swept


def errors_of(judged: Judged) -> Errors:
    """The figures of judged points."""
    found = held_out(judged.predicted_s, judged.measured_s, judged.sigma)
    return Errors(
        device=judged.device,
        operator=judged.operator,
        key=judged.key,
        origin=judged.origin,
        part=judged.part,
        points=found.points,
        median=found.median,
        p90=found.p90,
        bias=found.bias,
        coverage=found.coverage,
        rank=rank_correlation(judged.sizes, judged.measured_s, judged.predicted_s),
    )


def rank_correlation(sizes: Mapping[str, Floats], measured: Floats, predicted: Floats) -> float:
    """Mean Spearman correlation of predicted with measured times within sweeps; NaN where there are none.

    A sweep is points that agree in all sizes but one, of which it has SHORTEST_SWEEP values at least.
    """
    frame = pd.DataFrame({**sizes, "_measured": measured, "_predicted": predicted})
    varying = [name for name in sizes if np.ptp(sizes[name]) > 0]
    found = []
    for name in varying:
        fixed = [other for other in varying if other != name]
        groups = frame.groupby(fixed, sort=False).ngroup() if fixed else pd.Series(0, index=frame.index)
        long = frame.groupby(groups)[name].transform("nunique") >= SHORTEST_SWEEP
        found.append(_correlations(frame[long], groups[long]))
    all_sweeps = np.concatenate(found) if found else np.empty(0)
    return float(all_sweeps.mean()) if len(all_sweeps) else float("nan")


def _correlations(frame: pd.DataFrame, groups: pd.Series) -> Floats:
    """Spearman's correlation of each group; one whose measured times are all alike has none."""
    ranks = frame[["_measured", "_predicted"]].groupby(groups).rank()
    centred = ranks - ranks.groupby(groups).transform("mean")
    measured, predicted = centred["_measured"], centred["_predicted"]
    moments = pd.DataFrame({"mp": measured * predicted, "mm": measured**2, "pp": predicted**2}).groupby(groups).sum()
    moments = moments[moments["mm"] > 0]
    # a flat prediction orders nothing
    scale = np.sqrt((moments["mm"] * moments["pp"]).to_numpy(float))
    product = moments["mp"].to_numpy(float)
    return np.asarray(np.divide(product, scale, out=np.zeros_like(product), where=scale > 0))
