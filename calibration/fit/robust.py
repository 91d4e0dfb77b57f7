"""Robust least squares on logarithms: parameters, their covariance, and how far off held-out points are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.fits import HeldOut
from hardware_models.intervals import NORMAL_90

Floats = NDArray[np.float64]
Predict = Callable[[dict[str, float]], Floats]  # parameters -> seconds of every point
SCALE = 0.05  # residuals beyond this log-distance are damped (soft L1): 5 % is what repeated runs differ by


@dataclass(frozen=True, slots=True)
class Fitted:
    """Result of a fit."""

    parameters: dict[str, float]
    covariance: Floats  # (p, p), of the log-parameters


def fit_parameters(
    predict: Predict,
    seconds: Floats,
    start: Mapping[str, float],
    prior_spread: float | Mapping[str, float] | None = None,
    weights: Floats | None = None,
) -> Fitted:
    """Minimise the soft-L1 loss of log(predicted / measured) over the logarithms of the parameters.

    predict: parameters to seconds (n,); seconds: measured (n,); start: first guess, whose order is the covariance's.
    prior_spread: standard deviation of the logarithms around `start` before measuring, one for all or one a parameter
    (a parameter that is not named is free), which decides what the points leave open; None: nothing known.
    weights: of the points (n,), at most 1; None: all alike.
    The covariance is the sandwich of Huber (1967), which holds when the form is not exactly true.
    """
    from scipy.optimize import least_squares

    names, target = list(start), np.log(seconds)
    first = np.log([start[name] for name in names])
    spreads = prior_spread if isinstance(prior_spread, Mapping) else dict.fromkeys(names, prior_spread or np.inf)
    pull = SCALE / np.array([spreads.get(name, np.inf) for name in names])
    trust = np.ones_like(target) if weights is None else weights

    def residual(theta: Floats) -> Floats:
        error = np.log(predict(dict(zip(names, np.exp(theta).tolist(), strict=True)))) - target
        return np.concatenate([trust * error, pull * (theta - first)])

    found = least_squares(residual, first, loss="soft_l1", f_scale=SCALE, diff_step=[0.02] * len(names), max_nfev=80)
    slopes = 1.0 / np.sqrt(1.0 + (found.fun / SCALE) ** 2)  # of soft L1; already in found.jac, as their square root
    jacobian: Floats = np.array(found.jac)
    jacobian[len(seconds) :] = np.diag(pull)  # undamped: a parameter far from its prior is no less sure for that
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    scores = (jacobian * (np.sqrt(slopes) * found.fun)[:, None])[: len(seconds)]
    doubt = np.diag((pull * SCALE) ** 2)  # leaves prior_spread where no point speaks
    covariance = bread @ (scores.T @ scores + doubt) @ bread
    return Fitted(dict(zip(names, np.exp(found.x).tolist(), strict=True)), covariance)


def robust_spread(log_ratio: Floats) -> float:
    """Standard deviation whose central 90 % holds 90 % of the points (n,): the 90th percentile of |x| over 1.645."""
    return float(np.quantile(np.abs(log_ratio), 0.9)) / NORMAL_90 if len(log_ratio) else 0.0


def held_out(predicted: Floats, measured: Floats, sigma: Floats) -> HeldOut:
    """Errors of predictions (n,) whose logarithms have standard deviation sigma (n,)."""
    error = predicted / measured - 1.0
    inside = np.abs(np.log(predicted / measured)) <= NORMAL_90 * sigma
    return HeldOut(
        points=len(error),
        median=float(np.median(np.abs(error))),
        p90=float(np.quantile(np.abs(error), 0.9)),
        bias=float(np.median(error)),
        coverage=float(inside.mean()),
    )


def split_by_region(sizes: Mapping[str, Floats], share: float = 0.2, seed: int = 7) -> NDArray[np.bool_]:
    """True for points to keep out of the fit: whole cells of a grid of factors of two in every size, so that no held
    out point has a near twin in the fit. Keeps out about `share` of the points.
    """
    cells = np.stack([np.floor(np.log2(np.maximum(v, 1.0))) for v in sizes.values()], axis=1)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = np.asarray(cell).reshape(-1)
    chosen = np.random.default_rng(seed).random(int(cell.max()) + 1) < share
    return np.asarray(chosen[cell])
