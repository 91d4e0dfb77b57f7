"""What a metered row says of itself: watts against its limit, who was slowed for how long, and what users felt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.facility import breaker_trips
from hardware_models.intervals import NORMAL_90
from sim.power.classes import TRAINING, class_watts
from sim.power.row import RowLog
from sim.power.series import PowerSeries
from sim.power.start import PowerRun
from sim.power_section import PowerSection

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
WINDOWS_S = {"peak_10_s": 10.0, "peak_1_min": 60.0, "peak_5_min": 300.0}
MOST_SERVER_ROWS = 1_000_000  # of a frame; beyond, it holds the row alone


def power_summary(power: PowerRun | None, section: PowerSection | None, columns: dict[str, Any]) -> dict[str, Any]:
    """Entry "power" of a summary; None where no row is metered. columns: of the requests."""
    if power is None or section is None or power.row is None or power.limit_w is None or not power.row.log.t_s:
        return {"power": None}
    log, limit_w = power.row.log, power.limit_w
    series = row_series(log, section.telemetry_period_s)
    trips = breaker_trips(series.t_s, series.watts, limit_w, section.ride_through_s)
    brakes = [brake for at, _, _, brake in log.changes if at < series.end_s]
    entry: dict[str, Any] = {
        "row_limit_w": limit_w,
        "row_w": {"mean": series.mean_w, "p50": series.percentile_w(50.0), "p99": series.percentile_w(99.0)}
        | {name: series.peak_mean_w(window) for name, window in WINDOWS_S.items()}
        | {"max": float(series.watts.max())},
        "class_w": {
            name: {"mean": float(watts.mean()), "max": float(watts.max())}
            for name, watts in class_watts(log.server_w, log.classes).items()
        },
        "row_peak_fraction": float(series.watts.max()) / limit_w,
        "rise_fraction": _rise(log.row_w, section) / limit_w,
        "row_energy_j": series.energy_j,
        "gpu_share_of_energy": float(np.sum(log.gpu_w)) * section.telemetry_period_s / series.energy_j,
        "over_limit_s": series.seconds_above(limit_w),
        "breaker_trips": len(trips),
        "brakes": sum(now and not before for now, before in zip(brakes, [False, *brakes], strict=False)),
        "braked_s": _lasting(log, 3, series.end_s),
        "orders": len(log.orders),
        "low_priority_locked_s": _lasting(log, 1, series.end_s),
        "high_priority_locked_s": _lasting(log, 2, series.end_s),
        "by_priority": _by_priority(columns),
    }
    return {"power": entry}


def power_intervals(entry: dict[str, Any] | None, gpu_sigma: float, server_sigma: float) -> dict[str, Any]:
    """90 % intervals of a row's watts: what is not sure of its GPUs, in their share, and of the rest of its servers."""
    if entry is None:
        return {}
    sigma = math.hypot(entry["gpu_share_of_energy"] * gpu_sigma, server_sigma)
    low, high = math.exp(-NORMAL_90 * sigma), math.exp(NORMAL_90 * sigma)
    bars = {name: [low * value, high * value] for name, value in entry["row_w"].items()}
    fractions = {name: [low * entry[name], high * entry[name]] for name in ("row_peak_fraction", "rise_fraction")}
    return {"power": {"row_w": bars, **fractions}}


def row_series(log: RowLog, period_s: float) -> PowerSeries:
    """Mean watts of each reading's period."""
    return PowerSeries.of([log.t_s[0] - period_s, *log.t_s], log.row_w)


def _rise(watts: Floats, section: PowerSection) -> float:
    """The most by which a reading exceeds one taken an actuation delay before, or less."""
    window = max(1, round(section.actuation_delay_s / section.telemetry_period_s))
    from scipy.ndimage import minimum_filter1d  # takes long to import

    lowest = minimum_filter1d(watts, window + 1, origin=window // 2, mode="nearest")  # of itself and those before
    return float(np.max(watts - lowest))


def _lasting(log: RowLog, column: int, end_s: float) -> float:
    """Seconds in which a column of the log's changes was set, until the last reading."""
    times = [min(change[0], end_s) for change in log.changes] + [end_s]
    spans = zip(log.changes, times, times[1:], strict=False)
    return float(sum(until - since for change, since, until in spans if change[column]))


def _by_priority(columns: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Latencies of the requests of each priority, in seconds."""
    found = {}
    low = columns["priority"] > 0
    for name, chosen in (("high", ~low), ("low", low)):
        if chosen.any():
            found[name] = {"requests": int(chosen.sum())} | {
                f"{latency.removesuffix('_s')}_{point}_s": _percentile(columns[latency][chosen], point)
                for latency in ("ttft_s", "tpot_s", "e2e_s")
                for point in ("p50", "p99")
            }
    return found


def _percentile(values: Floats, point: str) -> float | None:
    done = values[np.isfinite(values)]
    return float(np.percentile(done, float(point[1:]))) if len(done) else None


def power_frame(power: PowerRun | None) -> pd.DataFrame:
    """One row a reading of the row and of each server: t_s (end of its period), scope, id, watts (at the wall),
    gpu_watts, low_clock_mhz and high_clock_mhz (locks in effect at its end, NaN: none), brake, training_clock_mhz
    (at which a training runs then, NaN: there is none).

    Where a training is in the row, each class (high, low, training, unused) has rows of its own. Servers are left out
    where they would be more than a million rows.
    """
    import pandas as pd

    if power is None or power.row is None:
        log, at = RowLog(), np.zeros(0, int)
    else:
        log = power.row.log
        at = np.searchsorted([change[0] for change in log.changes], log.t_s, side="right")
    states = [(0.0, None, None, False), *log.changes]
    count = len(log.t_s)
    row = pd.DataFrame(
        {
            "t_s": np.array(log.t_s, float),
            "scope": "row",
            "id": 0,
            "watts": log.row_w,
            "gpu_watts": np.array([watts.sum() for watts in log.gpu_w], float),
            "low_clock_mhz": np.array([states[i][1] for i in at], float),
            "high_clock_mhz": np.array([states[i][2] for i in at], float),
            "brake": np.array([states[i][3] for i in at], bool),
            "training_clock_mhz": _training_mhz(power, np.array(log.t_s, float)),
        }
    )
    classes = log.classes if count and TRAINING in log.classes else {}
    gpu_w = class_watts(log.gpu_w, classes)
    parts = [row] + [
        row.assign(scope=name, watts=watts, gpu_watts=gpu_w[name])
        for name, watts in class_watts(log.server_w, classes).items()
    ]
    servers = len(log.server_w[0]) if count else 0
    if not 0 < count * servers <= MOST_SERVER_ROWS:
        return pd.concat(parts, ignore_index=True)
    each = row.loc[np.repeat(np.arange(count), servers)].assign(
        scope="server",
        id=np.tile(np.arange(servers), count),
        watts=np.concatenate(log.server_w),
        gpu_watts=np.concatenate(log.gpu_w),
    )
    return pd.concat([*parts, each], ignore_index=True)


def _training_mhz(power: PowerRun | None, times_s: Floats) -> Floats:
    if power is None or power.row is None or power.row.training is None:
        return np.full(len(times_s), np.nan)
    training = power.row.training
    at = np.searchsorted(training.lock.history.since_s, times_s, side="right") - 1
    return np.asarray(np.array(training.lock.history.clocks)[at] * training.boost_mhz)
