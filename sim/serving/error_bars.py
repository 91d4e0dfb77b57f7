"""90 % intervals of a run's figures, from how unsure its operators are, without running it again.

What the operators of one factor (matrix products, decode attention, collectives, host, ...) are off by is taken as one
unknown a run, so it does not average away over steps; different factors err independently. How much a latency moves
with each factor is read off the run's own path: the steps between a request's admission and its last token, and, while
requests queue, every step since the queue formed (infinitesimal perturbation analysis: Ho and Cao, Perturbation
Analysis of Discrete Event Dynamic Systems, 1991). Below saturation a slower engine also holds more sequences at once:
with an elastic share k of its time, a first change of 1 ends as 1 + k + k^2 + ... = 1 / (1 - k).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.intervals import NORMAL_90
from sim.serving.attribution import Attribution
from sim.serving.record import run_seconds
from sim.serving.row_costs import FACTORS

Floats = NDArray[np.float64]
SAMPLE = 5_000  # requests and runs looked at: more change nothing but the wait
WINDOW = 0.01  # a percentile's sensitivity is the mean over requests so much around it
FEWEST = 20  # and at least so many
MOST_ELASTIC = 0.67  # beyond it the engine is saturated, and the series above is not what limits it
QUEUES = 0.1  # share of requests whose wait is longer than a tenth of their service, above which it is saturated
POINTS = {"mean": None, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """Seconds by which each sampled request's latencies move with one standard deviation of each factor."""

    values: dict[str, Floats]  # latency -> (requests,)
    moves: dict[str, Floats]  # latency -> (factors, requests)
    last_finish: Floats  # (factors,): of the run's end


def intervals(
    summary: dict[str, Any],
    columns: dict[str, Any],
    runs: dict[str, Floats],
    attributions: list[Attribution],
    watts_sigma: float = 0.0,
    watts_limit: float = np.inf,
) -> dict[str, Any]:
    """Figure -> [low, high], or -> point -> [low, high] for distributions; empty where nothing was completed.

    summary: the figures; columns: of requests; runs: of the engines, with their attributions, one a stage.
    watts_sigma: standard deviation of the logarithm of the GPUs' watts, which err apart from their times; watts_limit:
    what no GPU can draw more than.
    """
    done = np.flatnonzero(np.isfinite(columns["e2e_s"]))
    if not len(done) or not len(runs["iterations"]):
        return {}
    unsure = np.sum([a.unsure_s for a in attributions], axis=0)
    found = _sensitivities(columns, runs, unsure, done, _gain(columns, attributions, done))
    result: dict[str, Any] = {}
    for name, values in found.values.items():
        result[name] = _of_distribution(summary[name], values, found.moves[name])
    result["tbt_s"] = _of_gaps(summary["tbt_s"], runs, unsure)
    result["max_tbt_s"] = {
        point: _around(value, _ratio(result["tbt_s"].get("p99"))) for point, value in _points(summary["max_tbt_s"])
    }
    duration = summary["duration_s"]
    spread = float(np.sqrt((found.last_finish**2).sum())) / duration if duration else 0.0
    for name in ("duration_s", "request_throughput", "output_throughput", "total_token_throughput",
                 "output_tokens_per_s_per_gpu", "cost_usd", "usd_per_million_output_tokens"):  # fmt: skip
        if summary.get(name) is not None:
            result[name] = _around(summary[name], spread)
    result |= _of_goodput(summary, columns, result)
    result |= _of_energy(summary, spread, watts_sigma, watts_limit)
    return result


def _of_goodput(summary: dict[str, Any], columns: dict[str, Any], bars: dict[str, Any]) -> dict[str, list[float]]:
    """What is left of goodput where all latencies are as long, or as short, as their intervals at the SLO's percentile
    say.
    """
    slo, duration = summary["slo"], summary["duration_s"]
    point = f"p{slo['percentile']:g}"
    met = []
    for sign in (1.0, -1.0):
        good = np.isfinite(columns["e2e_s"])
        for key, verdict in slo.items():
            if isinstance(verdict, dict):
                name = "max_tbt_s" if key == "tbt_s" else key
                spread = _ratio(bars[name].get(point, bars[name].get("p99")))
                longer = columns[name] * np.exp(sign * NORMAL_90 * spread)
                good &= (longer <= verdict["limit"]) | np.isnan(longer)
        met.append(int(good.sum()))
    result = {"goodput_fraction": [count / len(columns["e2e_s"]) for count in met]}
    if duration:
        low, high = bars["duration_s"]
        result["request_goodput_per_s"] = [met[0] / high, met[1] / low]
    return result


def _of_energy(
    summary: dict[str, Any], spread: float, watts_sigma: float, watts_limit: float
) -> dict[str, list[float]]:
    """Watts err by their own spread up to the power limit, joules by that of the duration as well."""
    energy = float(np.hypot(spread, watts_sigma))
    result = {}
    for name, sigma, watts in (
        ("mean_power_w_per_gpu", watts_sigma, "mean_power_w_per_gpu"),
        ("mean_power_w_per_gpu_used", watts_sigma, "mean_power_w_per_gpu_used"),
        ("energy_j", energy, "mean_power_w_per_gpu"),
        ("energy_j_per_output_token", energy, "mean_power_w_per_gpu"),
    ):
        if summary.get(name) is not None:
            low, high = _around(summary[name], sigma)
            result[name] = [low, max(summary[name], min(high, summary[name] * watts_limit / summary[watts]))]
    return result


def _sensitivities(
    columns: dict[str, Any], runs: dict[str, Floats], unsure: Floats, done: NDArray[np.int64], gain: float
) -> Sensitivities:
    finish = columns["arrival_s"] + columns["e2e_s"]
    last = done[np.argmax(finish[done])]
    chosen = np.unique(np.append(done[:: max(1, len(done) // SAMPLE)], last))
    arrival, output = columns["arrival_s"][chosen], columns["output_tokens"][chosen]
    queued = columns["queue_s"][chosen]
    begun = _queue_began(columns, done)[chosen]
    at = [begun, arrival + queued, arrival + columns["ttft_s"][chosen], arrival + columns["e2e_s"][chosen]]
    began, admitted, first, finished = _spent(runs, unsure, columns["replica"][chosen], at)
    wait, service, decode = admitted - began, gain * (first - admitted), gain * (finished - first)
    gaps = np.maximum(output - 1, 1)
    moves = {
        "queue_s": wait,
        "ttft_s": wait + service,
        "e2e_s": wait + service + decode,
        "tpot_s": decode / gaps,
        "ntpot_s": (wait + service + decode) / output,
    }
    values = {
        "queue_s": queued,
        "ttft_s": columns["ttft_s"][chosen],
        "e2e_s": columns["e2e_s"][chosen],
        "tpot_s": columns["tpot_s"][chosen],
        "ntpot_s": columns["e2e_s"][chosen] / output,
    }
    end = moves["e2e_s"][:, np.searchsorted(chosen, last)]
    return Sensitivities(values, moves, end)


def _spent(runs: dict[str, Floats], unsure: Floats, replica: NDArray[np.int64], at: list[Floats]) -> list[Floats]:
    """Unsure seconds that each request's engine had spent by several instants: (factors, requests) each.

    Lanes of a pipeline work side by side: a request meets one lane's share.
    """
    result = [np.zeros((len(FACTORS), len(replica))) for _ in at]
    seconds = run_seconds(runs)
    for number in np.unique(replica):
        mine = np.flatnonzero(runs["replica"] == number)
        start = runs["start_s"][mine]
        end = start + seconds[mine]
        lanes = max(1, len(np.unique(runs["lane"][mine])))
        order = np.argsort(end, kind="stable")
        here = np.flatnonzero(replica == number)
        edges = np.maximum.accumulate(np.stack([start[order], end[order]], axis=1).ravel())
        spent = np.cumsum(unsure[:, mine[order]], axis=1) / lanes
        before = np.concatenate([np.zeros((len(spent), 1)), spent[:, :-1]], axis=1)
        levels = np.stack([before, spent], axis=2).reshape(len(spent), -1)
        for found, instants in zip(result, at, strict=True):
            right = np.clip(np.searchsorted(edges, instants[here]), 1, len(edges) - 1)
            width = edges[right] - edges[right - 1]
            gone = np.clip(instants[here] - edges[right - 1], 0.0, width)
            share = np.divide(gone, width, out=np.zeros_like(width), where=width > 0)
            found[:, here] = levels[:, right - 1] + (levels[:, right] - levels[:, right - 1]) * share
    return result


def _queue_began(columns: dict[str, Any], done: NDArray[np.int64]) -> Floats:
    """When the queue formed in which each request waited: waits of one engine that overlap are one queue."""
    began = np.array(columns["arrival_s"], dtype=float)
    for number in np.unique(columns["replica"][done]):
        mine = done[columns["replica"][done] == number]
        mine = mine[np.argsort(columns["arrival_s"][mine], kind="stable")]
        arrival = columns["arrival_s"][mine]
        until = np.maximum.accumulate(arrival + columns["queue_s"][mine])
        new = np.append(True, arrival[1:] > until[:-1])
        began[mine] = arrival[np.maximum.accumulate(np.where(new, np.arange(len(mine)), 0))]
    return began


def _gain(columns: dict[str, Any], attributions: list[Attribution], done: NDArray[np.int64]) -> float:
    """How much a change of speed is amplified by the sequences that pile up; 1 where a queue forms instead."""
    service = columns["e2e_s"][done] - columns["queue_s"][done]
    if np.mean(columns["queue_s"][done] > 0.1 * service) > QUEUES:
        return 1.0
    busy = sum(float(a.busy_s.sum()) for a in attributions)
    elastic = sum(float(a.elastic_s.sum()) for a in attributions)
    return 1.0 / (1.0 - min(elastic / busy, MOST_ELASTIC)) if busy else 1.0


def _of_distribution(figures: dict[str, float | None], values: Floats, moves: Floats) -> dict[str, list[float]]:
    """Interval of each point of a distribution, by the sensitivities of the requests around it."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    result = {}
    for point, figure in _points(figures):
        share = POINTS[point]
        if share is None:
            around = order
        else:
            half = max(WINDOW * len(order), FEWEST / 2)
            middle = share * (len(order) - 1)
            around = order[max(0, int(middle - half)) : int(middle + half) + 1]
        level = float(values[around].mean())
        spread = float(np.sqrt((moves[:, around].mean(axis=1) ** 2).sum())) / level if level > 0 else 0.0
        result[point] = _around(figure, spread)
    return result


def _of_gaps(figures: dict[str, float | None], runs: dict[str, Floats], unsure: Floats) -> dict[str, list[float]]:
    """Intervals of gaps between tokens: of the steps that long, weighted by the tokens they made."""
    decoding = np.flatnonzero((runs["decode_seqs"] > 0) & (runs["iterations"] > 0))
    if not len(decoding):
        return {}
    decoding = decoding[:: max(1, len(decoding) // SAMPLE)]
    steps = runs["iterations"][decoding]
    length = steps * runs["first_s"][decoding] + 0.5 * steps * (steps - 1.0) * runs["slope_s"][decoding]
    order = np.argsort(length / steps)
    weight = np.cumsum((runs["decode_seqs"][decoding] * steps)[order])
    share = unsure[:, decoding] / length
    result = {}
    for point, figure in _points(figures):
        percentile = POINTS[point]
        if percentile is None:
            around = order
        else:
            middle = int(np.searchsorted(weight, percentile * weight[-1]))
            half = max(int(WINDOW * len(order)), FEWEST // 2)
            around = order[max(0, middle - half) : middle + half + 1]
        result[point] = _around(figure, float(np.sqrt((share[:, around].mean(axis=1) ** 2).sum())))
    return result


def _points(figures: dict[str, float | None]) -> list[tuple[str, float]]:
    return [(point, value) for point in POINTS if (value := figures.get(point)) is not None]


def _ratio(interval: list[float] | None) -> float:
    """The spread that an interval was made of."""
    return 0.0 if not interval or interval[0] <= 0 else float(np.log(interval[1] / interval[0])) / (2 * NORMAL_90)


def _around(value: float, spread: float) -> list[float]:
    """90 % interval of a figure whose logarithm has this standard deviation."""
    factor = float(np.exp(NORMAL_90 * spread))
    return [value / factor, value * factor]
