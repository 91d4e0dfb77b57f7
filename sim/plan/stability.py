"""Does a queue settle? The slope of the number of requests in the system over a run.

A queue that is stable has a level; one that is not grows by the arrivals that find no service. The number in the
system is averaged over equal parts of the time (batch means, which take the correlation of neighbouring instants out:
Law and Kelton, Simulation Modeling and Analysis), and a straight line through the means of the later parts tells the
two apart, as Wieland, Pasupathy and Schmeiser do (Queueing-network stability: simulation-based checking, Winter
Simulation Conference 2003) and as load generators do to notice over-saturation (guidellm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PARTS = 20  # of the time of arrivals
WARM_UP = 5  # of these, in which an empty system fills
ROUNDING = 1e-6  # of seconds of work, that sums may be off
CONFIDENCE = 0.95  # one-sided, that the slope is above 0


@dataclass(frozen=True, slots=True)
class Growth:
    """How a queue grew over a run."""

    per_s: float  # requests in the system that each second adds
    least_per_s: float  # lower end of the one-sided confidence interval
    share: float  # of the arrivals, that the growth is
    allowed: float  # share from which on it counts

    @property
    def unstable(self) -> bool:
        """Does it grow beyond doubt, and by more than is allowed?"""
        return self.least_per_s > 0.0 and self.share > self.allowed


@dataclass(frozen=True, slots=True)
class Load:
    """Work, at least, that arrives over a run: a queue that settles in its later parts may have grown before."""

    share: float  # of the replicas' time between the first arrival and the last
    allowed: float  # share of the arrivals by which a queue may grow

    @property
    def too_much(self) -> bool:
        """Is some of it left for certain when the last request arrives, and more than is allowed?"""
        return self.share * (1.0 - ROUNDING) > 1.0 + self.allowed


def queue_growth(arrival_s: Floats, finish_s: Floats, allowed: float) -> Growth:
    """From sorted arrivals and the ends of the same requests (NaN: rejected): (requests,) each.

    allowed: share of the arrivals by which the queue may grow all the same; a search for a rate that is good to this
    share cannot tell less.
    """
    served = np.isfinite(finish_s)
    arrival, finish = arrival_s[served], np.sort(finish_s[served])
    if len(arrival) < 2 or arrival[-1] <= arrival[0]:
        return Growth(0.0, 0.0, 0.0, allowed)
    edges = np.linspace(arrival[0], arrival[-1], PARTS + 1)
    width = edges[1] - edges[0]
    level = (_integral(arrival, edges) - _integral(finish, edges))[WARM_UP:] / width
    time = (edges[:-1] + 0.5 * width)[WARM_UP:]
    slope, error = _line(time, level)
    rate = (len(arrival) - 1) / float(arrival[-1] - arrival[0])
    from scipy.stats import t

    least = slope - float(t.ppf(CONFIDENCE, len(level) - 2)) * error
    return Growth(slope, least, slope / rate, allowed)


def _integral(instants: Floats, edges: Floats) -> Floats:
    """Between each two edges, the integral over time of the number of instants that are past: (parts,)."""
    before = np.searchsorted(instants, edges)
    total = np.concatenate([[0.0], np.cumsum(instants)])
    area = before * edges - total[before]  # of steps at the instants, up to each edge
    return np.diff(area)


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Least-squares slope and its standard error."""
    centred = x - x.mean()
    square = float((centred**2).sum())
    slope = float((centred * y).sum()) / square
    residual = y - y.mean() - slope * centred
    return slope, float(np.sqrt((residual**2).sum() / (len(x) - 2) / square))
