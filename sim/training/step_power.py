"""Power of a training step, from its GPUs to the wall, with and without smoothing: energy, swings and frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware_models.server_power import server_power
from policies.power.smoothing import NoSmoothing
from sim.power.series import PowerSeries
from sim.training.clock_account import clock_account, clock_notes
from sim.training.gpu_power import PARTS, GpuPower, gpu_power
from sim.training.power_smoothing import Smoothed, smooth, smoothing_of
from sim.training.power_swings import Repeated, Spectrum
from sim.training.simulate import TrainingRun
from sim.training.wall_power import WallPower, wall_power

if TYPE_CHECKING:
    import pandas as pd

PERIODS_S = {"over_0_1_s": 0.1, "over_1_s": 1.0, "over_2_s": 2.0}  # of telemetry
STEPS = 4  # of a frame, one after another
MOST_ROWS = 400_000  # of a frame; beyond, it holds one step
POWER_COLUMNS = {
    "t_s": "from this instant on; the last row of each repeats the watts before the end",
    "scope": "gpu, server, cluster (at the wall) or work (the cluster, had nobody smoothed)",
    "id": "pipeline stage of a gpu; of servers that are alike, the first's number; else 0",
    "watts": "of one of them",
}


@dataclass(frozen=True, slots=True)
class StepPower:
    """Of one step, which others like it come before and after."""

    run: TrainingRun
    work: list[GpuPower]  # one of each stage, without smoothing
    wall: WallPower
    smoothed: Smoothed | None

    @classmethod
    def of(cls, run: TrainingRun) -> StepPower:
        """From the tasks as they ran."""
        work, policy = gpu_power(run), smoothing_of(run.deployment.scenario)
        series = [one.series for one in work]
        if isinstance(policy, NoSmoothing):
            return cls(run, work, wall_power(run.deployment, series), None)
        smoothed = smooth(run.deployment, series, policy)
        return cls(run, work, smoothed.wall, smoothed)

    @property
    def gpus(self) -> list[PowerSeries]:
        """As they draw it."""
        return [one.series for one in self.work] if self.smoothed is None else self.smoothed.gpus

    @property
    def cluster(self) -> PowerSeries:
        """At the wall."""
        return self.wall.cluster

    @property
    def parts_j(self) -> dict[str, float]:
        """Joules of all GPUs of the layout, by what they did; smoothing: more, or less, than their work would draw."""
        layout = self.run.deployment.layout
        ranks = layout.tp * layout.cp * layout.dp
        joules = np.sum([one.joules for one in self.work], axis=0)
        parts = {name: float(joules[number]) * ranks for number, name in enumerate(PARTS)}
        if self.smoothed is not None:
            drawn_j = sum(one.energy_j for one in self.smoothed.gpus)
            parts["smoothing"] = (drawn_j - sum(one.series.energy_j for one in self.work)) * ranks
        return parts

    def entry(self) -> dict[str, Any]:
        """Entry "power" of a summary."""
        cluster, gpus = Repeated(self.cluster), self.gpus
        deployment = self.run.deployment
        rated_w = deployment.scenario.cluster.nodes * server_power(deployment.node).rated_w
        ramps = {name: cluster.ramps(period_s) for name, period_s in PERIODS_S.items()}
        means = {name: cluster.means(period_s) for name, period_s in PERIODS_S.items()}
        return {
            "wall_w": {
                "mean": self.cluster.mean_w,
                "peak": float(self.cluster.watts.max()),
                "trough": float(self.cluster.watts.min()),
            }
            | {f"peak_{name}": most for name, (_, most) in means.items()}
            | {f"trough_{name}": least for name, (least, _) in means.items()},
            "gpu_w": {
                "mean": float(np.mean([one.mean_w for one in gpus])),
                "peak": max(float(one.watts.max()) for one in gpus),
                "trough": min(float(one.watts.min()) for one in gpus),
                "trough_over_0_1_s": min(Repeated(one).means(PERIODS_S["over_0_1_s"])[0] for one in gpus),
            },
            "swing_fraction": swing(self.cluster),
            "rated_w": rated_w,
            "peak_of_rated_fraction": means["over_2_s"][1] / rated_w,
            "rise_2_s_of_rated_fraction": ramps["over_2_s"][0] * PERIODS_S["over_2_s"] / rated_w,
            "ramp_up_w_per_s": {name: up for name, (up, _) in ramps.items()},
            "ramp_down_w_per_s": {name: down for name, (_, down) in ramps.items()},
            **self._frequencies(),
            "smoothing": self._smoothing(),
            "stage_clocks": clock_account(self.run),
        }

    def _frequencies(self) -> dict[str, float]:
        """Of steps, of micro-batches and of the largest swing, with their amplitudes."""
        spectrum, step_hz, micro_batch_hz = Spectrum.of(self.cluster), 1.0 / self.run.step_s, self._micro_batch_hz()
        dominant_hz, dominant_w = spectrum.dominant
        return {
            "step_hz": step_hz,
            "step_amplitude_w": spectrum.near(step_hz),
            "micro_batch_hz": micro_batch_hz,
            "micro_batch_amplitude_w": spectrum.near(micro_batch_hz),
            "dominant_hz": dominant_hz,
            "dominant_amplitude_w": dominant_w,
            "grid_band_fraction": spectrum.share(),
        }

    def _micro_batch_hz(self) -> float:
        """How many a second the busiest device takes once the pipeline is full."""
        deployment = self.run.deployment
        layout = deployment.layout
        seconds = []
        for device in range(layout.pp):
            stages = deployment.schedule.stages_on(device, layout.pp)
            works = [(deployment.stages[one], deployment.micro_batches_on(device, one)) for one in stages]
            seconds.append(sum(count * (work.forward.seconds + work.backward.seconds) for work, count in works))
        return layout.micro_batches / max(seconds)

    def _smoothing(self) -> dict[str, Any]:
        """What it costs, and what it does for the swing."""
        choice, found = self.run.deployment.scenario.power, self.smoothed
        if choice is None or found is None:
            return {"name": "none", "added_fraction": 0.0, "held_back_fraction": 0.0}
        work = found.work_wall
        return {
            "name": choice.smoothing.name,
            "added_fraction": found.added_w / work.mean_w,
            "added_j_per_step": found.added_w * self.run.step_s,
            "held_back_fraction": found.held_back_s / self.run.step_s,
            "swing_fraction_without": swing(work),
            "stored_j": list(found.stored_j),
        }

    def frame(self) -> pd.DataFrame:
        """Steps one after another; columns as in POWER_COLUMNS."""
        import pandas as pd

        parts: list[tuple[str, int, PowerSeries]] = [("gpu", stage, one) for stage, one in enumerate(self.gpus)]
        parts += [("server", kind.first, one) for kind, one in self.wall.servers]
        parts.append(("cluster", 0, self.cluster))
        if self.smoothed is not None:
            parts.append(("work", 0, self.smoothed.work_wall))
        rows = sum(len(one.watts) + 1 for _, _, one in parts)
        steps = STEPS if rows * STEPS <= MOST_ROWS else 1
        frames = []
        for scope, number, one in parts:
            starts = (np.arange(steps)[:, None] * one.end_s + one.t_s[:-1]).ravel()
            t_s, watts = np.append(starts, steps * one.end_s), np.tile(one.watts, steps)
            frame = pd.DataFrame({"t_s": t_s, "watts": np.append(watts, watts[-1])}).assign(scope=scope, id=number)
            frames.append(frame[list(POWER_COLUMNS)])
        return pd.concat(frames, ignore_index=True)


def swing(step: PowerSeries) -> float:
    """From the highest to the lowest reading of telemetry every 0.1 s, as a share of the highest."""
    low, high = Repeated(step).means(PERIODS_S["over_0_1_s"])
    return 1.0 - low / high


def power_notes(entry: dict[str, Any]) -> list[str]:
    """What a reader of a summary's entry must know: what smoothing costs, and what clocks save."""
    said, found = entry["smoothing"], clock_notes(entry["stage_clocks"])
    if said["name"] == "none":
        return found
    text = (
        f"smoothing ({said['name']}) takes the swing at the wall from {said['swing_fraction_without']:.0%} to"
        f" {entry['swing_fraction']:.0%} of its peak, for {said['added_fraction']:.1%} more power there"
    )
    if said["held_back_fraction"] > 0.0:
        text += (
            f"; work that may not ramp up at once would make a step {said['held_back_fraction']:.1%} longer, which its"
            " figures leave out"
        )
    if found:
        text += "; what stage clocks save is counted before it, and what smoothing adds takes some of that back"
    return [*found, text]
