"""What clocks chosen pass by pass did to a step: seconds and joules beside the same step at the highest clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.training.gpu_power import gpu_power
from sim.training.simulate import TrainingRun
from sim.training.stage_clocks import PassClocks

NOBODY = "none"


def clock_account(run: TrainingRun) -> dict[str, Any]:
    """Entry "stage_clocks" of a summary's power; joules are those of the GPUs, without smoothing."""
    clocks, hurried = run.clocks, run.at_boost
    if clocks is None or hurried is None:
        return {"name": NOBODY, "saved_fraction": 0.0, "slowdown_fraction": 0.0}
    drawn_j, boost_j = gpus_j(run), gpus_j(hurried)
    return {
        "name": clocks.name,
        "saved_fraction": 1.0 - drawn_j / boost_j,
        "slowdown_fraction": run.step_s / hurried.step_s - 1.0,
        "gpu_j_per_step": drawn_j,
        "gpu_j_per_step_at_boost": boost_j,
        "step_s_at_boost": hurried.step_s,
        "straggler": clocks.straggler,
        "stages": stage_rows(clocks),
        "mhz": mhz_of_passes(clocks),
    }


def gpus_j(run: TrainingRun) -> float:
    """Joules of a step of all GPUs of the layout."""
    layout = run.deployment.layout
    return sum(one.series.energy_j for one in gpu_power(run)) * layout.tp * layout.cp * layout.dp


def stage_rows(clocks: PassClocks) -> list[dict[str, Any]]:
    """A row a stage: the clocks of its passes, from the lowest to the highest, and their mean."""
    by_stage: dict[int, list[float]] = {}
    for slot, mhz in clocks.mhz.items():
        by_stage.setdefault(slot.stage, []).append(mhz)
    return [{"stage": stage} | _spread(by_stage[stage]) for stage in sorted(by_stage)]


def _spread(mhz: Sequence[float]) -> dict[str, float]:
    return {"mean_mhz": float(np.mean(mhz)), "lowest_mhz": min(mhz), "highest_mhz": max(mhz)}


def mhz_of_passes(clocks: PassClocks) -> dict[str, list[list[float]]]:
    """By kind of pass: a row a stage, an entry a micro-batch."""
    found: dict[str, list[list[float]]] = {}
    for slot, mhz in sorted(clocks.mhz.items()):
        rows = found.setdefault(slot.work, [])
        while len(rows) <= slot.stage:
            rows.append([])
        rows[slot.stage].append(mhz)
    return found


def clock_notes(entry: dict[str, Any]) -> list[str]:
    """What a reader of the entry must know: what was saved, at which cost, and who is not counted."""
    if entry["name"] == NOBODY:
        return []
    beside = f", beside a pipeline that takes {entry['straggler']:g} times as long" if entry["straggler"] > 1.0 else ""
    lowest = min(row["lowest_mhz"] for row in entry["stages"])
    highest = max(row["highest_mhz"] for row in entry["stages"])
    said = [
        f"stage clocks ({entry['name']}) of {lowest:,.0f} to {highest:,.0f} MHz save {entry['saved_fraction']:.1%} of"
        f" the GPUs' joules of a step, which takes {entry['slowdown_fraction']:.1%} longer than at the highest"
        f" clocks{beside}"
    ]
    if beside:
        said.append("figures are those of a copy of the model that waits; the late one is counted like the others")
    return said
