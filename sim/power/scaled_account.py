"""What a scaled run says of itself: engines, GPUs held, clocks and watts over time, by tensor-parallel size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.energy_account import HOUR_S
from hardware_models.power import power_model
from sim.power.clocks import AwakeJoules
from sim.power.engine_states import State
from sim.power.ledger import awake_joules
from sim.power.scaler import ScalerLoop
from sim.power.start import PowerRun
from sim.power.windows import Windows
from sim.serving.attribution import Attribution
from sim.serving.deployment import Deployment
from sim.serving.energy import run_watts
from sim.serving.shapes import ranks_of

if TYPE_CHECKING:
    import pandas as pd

    from sim.serving.simulate import ServingRun

Floats = NDArray[np.float64]
WINDOW_S = 10.0
MOST_WINDOWS = 10_000  # beyond, they are longer
SHOWN = (State.SERVING, State.STARTING, State.DRAINING)


@dataclass(frozen=True, slots=True)
class ScaledSeries:
    """Means over windows of time: (replicas, windows) each."""

    windows: Windows
    ranks: NDArray[np.int64]  # GPUs of each replica: (replicas,)
    gpu_j: Floats  # of all GPUs of a replica while it holds them
    held_s: Floats
    clock_s: Floats  # shares of boost times seconds held
    in_state_s: dict[State, Floats]
    idle_w: float  # of a GPU that no replica holds
    gpus: int  # that replicas may hold

    @property
    def gpu_w(self) -> Floats:
        """Of all these GPUs: (windows,)."""
        width_s = np.diff(self.windows.edges_s)
        free = self.gpus - self.ranks @ self.held_s / width_s
        return np.asarray(self.gpu_j.sum(axis=0) / width_s + self.idle_w * free)


def scaled_series(
    deployment: Deployment,
    loop: ScalerLoop,
    awake: AwakeJoules,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    begin_s: float,
    duration_s: float,
) -> ScaledSeries:
    """From the first arrival to the last token."""
    windows = Windows.of(begin_s, duration_s, max(WINDOW_S, duration_s / MOST_WINDOWS))
    replicas, replica, start_s = len(awake.each), runs["replica"].astype(np.int64), runs["start_s"]
    ranks, busy_s = ranks_of(deployment, replicas), attributions[0].busy_s
    end_s = start_s + busy_s
    above_j = run_watts(runs, deployment, attributions[0], 0) * busy_s
    above_j = above_j - awake.until(replica, end_s) + awake.until(replica, start_s)
    per_gpu_j = awake_joules(deployment, windows, replicas, awake)
    per_gpu_j = per_gpu_j + windows.spread(replica, replicas, start_s, end_s, above_j)
    spans = _spans(loop.states.changes, windows.edges_s[0], windows.edges_s[-1])
    in_state_s = {}
    for state in SHOWN:
        chosen = [(number, since, until) for number, one, since, until in spans if one is state]
        number, since, until = (np.array(column) for column in zip(*chosen, strict=True)) if chosen else _NOTHING
        in_state_s[state] = windows.spread(number.astype(np.int64), replicas, since, until, until - since)
    return ScaledSeries(
        windows, ranks, ranks[:, None] * per_gpu_j, awake.held_s(windows.edges_s),
        np.array([history.clock_s(windows.edges_s) for history in awake.each]), in_state_s,
        power_model(deployment.gpu).idle_w, loop.terms.gpus,
    )  # fmt: skip


_NOTHING = (np.zeros(0), np.zeros(0), np.zeros(0))


def _spans(
    changes: list[tuple[float, int, State]], begin_s: float, end_s: float
) -> list[tuple[int, State, float, float]]:
    """Engine, state, since when, until when."""
    found, since = [], dict[int, tuple[State, float]]()
    for at_s, number, state in changes:
        if number in since:
            found.append((number, *since[number], at_s))
        since[number] = state, at_s
    found += [(number, state, at_s, end_s) for number, (state, at_s) in since.items()]
    clipped = ((n, state, max(a, begin_s), min(b, end_s)) for n, state, a, b in found)
    return [span for span in clipped if span[2] < span[3]]


def scaler_summary(
    deployment: Deployment,
    power: PowerRun | None,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    begin_s: float,
    duration_s: float,
) -> dict[str, Any]:
    """Entry "scaler" of a summary; nothing without one."""
    if power is None or power.scaler is None or not duration_s > 0.0:
        return {}
    loop = power.scaler
    series = scaled_series(deployment, loop, power.awake, runs, attributions, begin_s, duration_s)
    held_gpu_s = series.ranks[:, None] * series.held_s
    held_s, watts = float(held_gpu_s.sum()), series.gpu_w
    by_size = {int(size): float(held_gpu_s[series.ranks == size].sum()) / HOUR_S for size in np.unique(series.ranks)}
    states = loop.states
    return {
        "scaler": {
            "decisions": len(loop.plans),
            "starts": states.starts,
            "stops": states.stops,
            "reshards": states.reshards,
            "requests_held": loop.placement.waited,
            "pools": max((len(plans) for _, plans in loop.plans), default=1),
            "replicas_serving": float(series.in_state_s[State.SERVING].sum()) / duration_s,
            "gpus_held": held_s / duration_s,
            "held_fraction": held_s / duration_s / series.gpus,
            "gpu_h_by_tensor_parallel_size": {str(size): hours for size, hours in by_size.items()},
            "held_energy_j": float(series.gpu_j.sum()),
            "gpu_w": {
                "mean": float(watts.mean()),
                "p50": float(np.percentile(watts, 50.0)),
                "p99": float(np.percentile(watts, 99.0)),
                "max": float(watts.max()),
            },
        }
    }


def scaled_frame(run: ServingRun, attributions: list[Attribution], duration_s: float) -> pd.DataFrame:
    """One row a window of the cluster and of each tensor-parallel size: t_s (its end), scope, id (the size), watts (of
    GPUs; the cluster's with those that no replica holds), serving, starting, draining (replicas, on average),
    gpus_held, clock_mhz (mean of the GPUs held, NaN: none).
    """
    import pandas as pd

    assert run.power is not None
    assert run.power.scaler is not None
    begin_s = float(np.min(run.requests.requests.arrival_s))
    series = scaled_series(
        run.deployment, run.power.scaler, run.power.awake, run.runs.columns(), attributions, begin_s, duration_s
    )
    boost_mhz = run.deployment.gpu.boost_clock_hz / 1e6
    width_s, parts = np.diff(series.windows.edges_s), []
    everyone = np.ones(len(series.ranks), bool)
    sizes = [(int(size), series.ranks == size) for size in np.unique(series.ranks)]
    for scope, number, chosen in [("cluster", 0, everyone), *(("tensor_parallel_size", *size) for size in sizes)]:
        held_s = series.ranks[chosen] @ series.held_s[chosen]
        clock_s = series.ranks[chosen] @ series.clock_s[chosen]
        watts = series.gpu_w if scope == "cluster" else series.gpu_j[chosen].sum(axis=0) / width_s
        parts.append(
            pd.DataFrame(
                {"t_s": series.windows.edges_s[1:], "scope": scope, "id": number, "watts": watts}
                | {state.value: series.in_state_s[state][chosen].sum(axis=0) / width_s for state in SHOWN}
                | {
                    "gpus_held": held_s / width_s,
                    "clock_mhz": boost_mhz * np.where(held_s > 0.0, clock_s / np.maximum(held_s, 1e-300), np.nan),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
