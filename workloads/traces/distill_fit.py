"""The fits behind the trace catalog: knots of quantile tables, rank ties, gaps with memory, reuse of prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata, spearmanr

from workloads.generators.profile import Profile
from workloads.randomness import stream
from workloads.request import FloatArray, IntArray, RequestTable

FORCED = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
ATOM = 2e-3  # a value with this share or more is a flat piece of the table
EDGE = 2e-6  # half the width of a table's jump


def knots(
    values: NDArray[Any],
    weights: FloatArray | None = None,
    *,
    floor: float = 8.0,
    tolerance: float = 0.01,
    most: int = 96,
) -> tuple[list[float], list[float]]:
    """Probabilities and values of a quantile table, knots added where it errs most until within `tolerance`.

    The error is relative to the value or to `floor`, whichever is larger.
    """
    p, q = _polyline(values, np.ones(len(values)) if weights is None else weights)
    chosen = {0, len(p) - 1} | {int(np.argmin(np.abs(p - forced))) for forced in FORCED}
    scale = np.maximum(q, floor)
    while len(chosen) < min(most, len(p)):
        at = np.array(sorted(chosen))
        error = np.abs(np.interp(p, p[at], q[at]) - q) / scale
        error[at] = 0.0
        worst = int(np.argmax(error))
        if error[worst] <= tolerance:
            break
        chosen.add(worst)
    at = np.array(sorted(chosen))
    rounded = np.round(p[at], 6)
    keep = np.concatenate([[True], np.diff(rounded) > 0])
    return rounded[keep].tolist(), q[at][keep].tolist()


def _polyline(values: NDArray[Any], weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The quantile function, each value at the middle of its rank, heavy values as level pieces."""
    q, where = np.unique(values, return_inverse=True)
    share = np.bincount(where, weights=weights)
    share = share / share.sum()
    upper = np.cumsum(share)
    lower = upper - share
    middle = (lower + upper) / 2
    heavy = share >= ATOM
    first = np.where(heavy, lower + EDGE, middle)
    last = np.where(heavy, upper - EDGE, middle)
    p = np.column_stack([first, last]).ravel()
    keep = np.column_stack([np.ones(len(q), dtype=bool), heavy]).ravel()
    return np.clip(p[keep], 0.0, 1.0), np.repeat(q, 2)[keep].astype(np.float64)


def checkerboard(prompt: IntArray, output: IntArray, bins: int) -> list[list[int]]:
    """Counts of requests by prompt-rank and output-rank bin; ties are broken at random."""
    rng = stream(0, "distill/ties")
    cells = []
    for column in (prompt, output):
        order = np.lexsort((rng.random(len(column)), column))
        rank = np.empty(len(column), dtype=np.int64)
        rank[order] = np.arange(len(column))
        cells.append(rank * bins // len(column))
    table = np.zeros((bins, bins), dtype=np.int64)
    np.add.at(table, (cells[0], cells[1]), 1)
    return [[int(v) for v in row] for row in table]


def spread_batches(arrival_s: FloatArray, batch_s: float) -> FloatArray:
    """Undo a log's coarse clock: requests of one time stamp are spread evenly at random over the `batch_s` after it."""
    return np.sort(arrival_s + batch_s * stream(0, "distill/spread").random(arrival_s.size))


def fit_arrivals(arrival_s: FloatArray, profile_bin_s: float | None) -> dict[str, Any]:
    """The rate, the gaps' table on the clock of the profile, and the gaps' memory."""
    span = float(arrival_s[-1])
    rate = (len(arrival_s) - 1) / float(arrival_s[-1] - arrival_s[0])
    fitted: dict[str, Any] = {"request_rate": _rounded(rate, 6)}
    clock = arrival_s * rate
    if profile_bin_s is not None:
        bins = max(round(span / profile_bin_s), 2)
        edges = np.linspace(0.0, span, bins + 1)
        relative = np.histogram(arrival_s, edges)[0] / (len(arrival_s) / bins)
        middle = [round(float(m), 2) for m in (edges[1:] + edges[:-1]) / 2]
        relative_rate = [round(float(r / relative.mean()), 4) for r in relative]
        fitted["profile"] = {"period_s": _rounded(span, 7), "t_s": middle, "relative_rate": relative_rate}
        profile = Profile(t_s=middle, request_rate=relative_rate, period_s=fitted["profile"]["period_s"])
        clock = np.array([profile.integral(float(t)) for t in arrival_s]) * rate
    gaps = np.diff(clock)
    p, q = knots(gaps, floor=0.1, tolerance=0.02, most=128)
    fraction, persistence = memory(gaps)
    fitted |= {"memory_fraction": fraction, "memory_persistence": persistence}
    fitted |= {"probabilities": p, "gaps": [_rounded(v, 4) for v in q]}
    return fitted


def memory(gaps: FloatArray) -> tuple[float, float]:
    """Share and persistence of the slow part of the gaps' normal scores, from their autocorrelation f * phi^lag."""
    score = ndtri((rankdata(gaps) - 0.5) / len(gaps))

    def correlation(lags: range) -> float:
        return float(np.mean([np.corrcoef(score[:-lag], score[lag:])[0, 1] for lag in lags]))

    near, far = correlation(range(1, 6)), correlation(range(16, 25))
    if near < 0.03:
        return 0.0, 0.0
    persistence = min(max(far / near, 0.01) ** (1 / 17), 0.995)
    return round(near / persistence**3, 3), round(persistence, 3)


def fit_prefixes(table: RequestTable, bins: int) -> dict[str, Any]:
    """Share of leading blocks seen before, by prompt length, and how many requests back they were last seen."""
    assert table.prefix_hashes is not None
    last_seen: dict[int, int] = {}
    fraction, distance, hits, blocks = [], [], 0, 0
    for i, hashes in enumerate(table.prefix_hashes):
        known = next((k for k, one in enumerate(hashes) if one not in last_seen), len(hashes))
        if known:
            distance.append(i - last_seen[hashes[known - 1]])
        fraction.append(known / len(hashes))
        hits, blocks = hits + known, blocks + len(hashes)
        last_seen.update(dict.fromkeys(hashes, i))
    edges = np.quantile(table.prompt_tokens, np.arange(1, bins + 1) / bins, method="higher").astype(int)
    up_to = sorted({int(e) for e in edges})
    p = np.round(np.linspace(0, 1, 41), 4)
    which = np.minimum(np.searchsorted(up_to, table.prompt_tokens), len(up_to) - 1)
    shares = [np.quantile(np.array(fraction)[which == b], p) for b in range(len(up_to))]
    return {
        "prefix_block_tokens": table.prefix_block_tokens,
        "hit_fraction": round(hits / blocks, 4),
        "up_to_tokens": up_to,
        "probabilities": p.tolist(),
        "distance": [_rounded(float(d), 4) for d in np.quantile(distance, p)],
        "reused_fraction": [[round(float(s), 4) for s in row] for row in shares],
    }


def figures(arrival_s: FloatArray | None, prompt: IntArray, output: IntArray) -> dict[str, Any]:
    """What the raw trace measures, for tests and for the reader."""
    found: dict[str, Any] = {"requests": len(prompt)}
    if arrival_s is not None:
        gaps = np.diff(arrival_s)
        found["duration_s"] = _rounded(float(arrival_s[-1]), 7)
        found["mean_rate_per_s"] = _rounded(float(1 / gaps.mean()), 5)
        found["gap_cv"] = _rounded(float(gaps.std() / gaps.mean()), 4)
        for window in (1, 10, 60):
            found[f"dispersion_{window}s"] = _rounded(dispersion(arrival_s, window), 4)
    for name, column in (("prompt", prompt), ("output", output)):
        found[f"{name}_mean"] = _rounded(float(column.mean()), 5)
        for percent in (50, 90, 99):
            found[f"{name}_p{percent}"] = float(np.quantile(column, percent / 100, method="inverted_cdf"))
        found[f"{name}_max"] = int(column.max())
    found["rank_correlation"] = round(float(spearmanr(prompt, output)[0]), 3)
    return found


def dispersion(arrival_s: FloatArray, window_s: float) -> float:
    """Variance over mean of the counts in windows: 1 for Poisson."""
    counts = np.histogram(arrival_s, np.arange(0.0, float(arrival_s[-1]), window_s))[0]
    return float(counts.var() / counts.mean())


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
