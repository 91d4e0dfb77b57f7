"""Fits what serving software adds to the hardware's times: a constant a step and a share a sequence, from end-to-end
measurements at fixed concurrency.

A step's host time adds to every output token, so the time per output token less the simulated one without software is
host_s_per_step + host_s_per_sequence x concurrency, whatever the model and the number of GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.end_to_end.closed_loop import ClosedLoop, play
from calibration.fit.robust import SCALE
from calibration.sources.serving_tables import closed_loop_table

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

POINT = ("model", "node", "tensor_parallel_size", "concurrency", "prompt_tokens", "output_tokens", "weight_dtype",
         "scheduler")  # fmt: skip
BARE = "ideal"
HALF_NORMAL_MEDIAN = 0.6745  # median of |x| of a standard normal
JUDGED = (4,)  # tensor-parallel sizes kept out of the fit


@dataclass(frozen=True, slots=True)
class HostFit:
    """Host times of one engine, and their errors on points kept out of the fit."""

    engine: str
    host_s_per_step: float
    host_s_per_sequence: float
    sigma: float  # standard deviation of the logarithm of the host time itself
    points: int
    judged: int
    median_error: float
    p90_error: float
    bias: float


def bare_table(data: Path) -> pd.DataFrame:
    """The measured points with `bare_s`, the simulated time per output token without software."""
    table = closed_loop_table(data)
    bare = [play(ClosedLoop(engine=BARE, **{name: row[name] for name in POINT})).tpot_s for _, row in table.iterrows()]
    return table.assign(bare_s=bare)


def fit_frameworks(table: pd.DataFrame) -> Iterator[HostFit]:
    """Fit each engine of `bare_table` on all but the judged tensor-parallel sizes."""
    from scipy.optimize import least_squares

    for engine, rows in table.groupby("engine", sort=True):
        kept_out = rows["tensor_parallel_size"].isin(JUDGED).to_numpy()
        measured, bare = rows["tpot_s"].to_numpy(), rows["bare_s"].to_numpy()
        load = rows["concurrency"].to_numpy(float)

        def error(theta: Floats, which: Mask, m: Floats = measured, b: Floats = bare, c: Floats = load) -> Floats:
            host = theta[0] * 1e-3 + theta[1] * 1e-5 * c[which]
            return np.asarray(np.log((b[which] + host) / m[which]))

        found = least_squares(error, [0.5, 1.0], bounds=(0.0, np.inf), loss="soft_l1", f_scale=SCALE, args=(~kept_out,))
        unseen = np.exp(error(found.x, kept_out)) - 1.0
        host = (found.x[0] * 1e-3 + found.x[1] * 1e-5 * load)[~kept_out]
        left = np.abs(measured - bare - (found.x[0] * 1e-3 + found.x[1] * 1e-5 * load))[~kept_out]
        yield HostFit(
            engine=str(engine),
            host_s_per_step=float(found.x[0]) * 1e-3,
            host_s_per_sequence=float(found.x[1]) * 1e-5,
            sigma=float(np.median(left / host)) / HALF_NORMAL_MEDIAN,
            points=int((~kept_out).sum()),
            judged=int(kept_out.sum()),
            median_error=float(np.median(np.abs(unseen))),
            p90_error=float(np.quantile(np.abs(unseen), 0.9)),
            bias=float(np.median(unseen)),
        )
