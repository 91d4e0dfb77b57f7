"""What stands above servers: the breaker of a row, and the site that feeds and cools it. Racks and rows are sums.

Watts are constant between the instants at which they change: `t_s` are n + 1 rising instants, `watts` the n values
between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_models.errors import FleetcastError
from hardware_models.server_power import server_power
from hardware_models.specs import NodeSpec

Floats = NDArray[np.float64]


def row_budget_w(node: NodeSpec, servers: int) -> float:
    """Watts that a row is built for: the rated ones of its servers (POLCA, arXiv 2308.12908: 40 DGX A100 a row)."""
    return servers * server_power(node).rated_w


def facility_watts(it_w: ArrayLike, pue: float) -> Floats:
    """Watts of the site: those of its computers times its power usage effectiveness, taken as constant."""
    if not pue >= 1.0:
        raise FleetcastError(f"pue = {pue:g}: a site draws no less than its computers; give 1 or more")
    return np.asarray(it_w, float) * pue


def overloads(t_s: ArrayLike, watts: ArrayLike, limit_w: float) -> Floats:
    """Start and end of each longest interval in which watts are above the limit: (overloads, 2), rising."""
    t, w = np.asarray(t_s, float), np.asarray(watts, float)
    if t.ndim != 1 or w.ndim != 1 or len(t) != len(w) + 1 or not np.all(np.diff(t) >= 0.0):
        raise FleetcastError("t_s must hold one rising instant more than there are watts")
    if np.isnan(w).any():
        raise FleetcastError("watts must be numbers throughout")
    lasting = np.diff(t) > 0.0
    t, above = np.append(t[:-1][lasting], t[-1:]), w[lasting] > limit_w
    change = np.diff(np.concatenate([[False], above, [False]]).astype(np.int8))
    return np.column_stack([t[np.flatnonzero(change == 1)], t[np.flatnonzero(change == -1)]])


def breaker_trips(t_s: ArrayLike, watts: ArrayLike, limit_w: float, ride_through_s: float) -> list[float]:
    """Instants at which a breaker trips: the watts have been above its limit for longer than the ride-through.

    One trip an overload, at the end of the ride-through (POLCA: batteries carry 10 s). The watts are as they would be
    had it not tripped.
    """
    if not limit_w > 0.0 or not ride_through_s >= 0.0:
        raise FleetcastError(
            f"limit_w = {limit_w:g}, ride_through_s = {ride_through_s:g}: give a limit above 0 and seconds not below"
        )
    spans = overloads(t_s, watts, limit_w)
    long = spans[:, 1] - spans[:, 0] > ride_through_s
    return [float(start) + ride_through_s for start in spans[long, 0]]
