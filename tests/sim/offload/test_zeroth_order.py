"""Zeroth-order steps: forwards alone, blocks that visit the GPU once, ranks that share their copies."""

from pathlib import Path
from typing import Any

import pytest

from sim.offload.simulate import OffloadRun, simulate_offload
from sim.offload.summary import summarise
from sim.scenario_file import parse_any
from sim.training_scenario import TrainingScenario


def run(ranks: int = 1, **policy: Any) -> OffloadRun:
    """OPT of 1.3 G parameters, one sequence a rank."""
    training = {"framework": "pytorch-eager-2023", "seq_length": 1024, "recompute": "full", "precision": "fp16"}
    training |= {"global_batch_size": ranks, "micro_batch_size": 1, "data_parallel_size": ranks}
    tables = {
        "model": {"config": "opt-1.3b"},
        "cluster": {"node": "dgx-a100-80gb"},
        "training": training,
        "offload": {"policy": {"name": "zo2", **policy}},
    }
    found = parse_any(tables, "test", Path())
    assert isinstance(found, TrainingScenario)
    return simulate_offload(found)


def test_a_block_comes_and_goes_once_a_step_and_nothing_runs_backward() -> None:
    streamed, resident = run(), run(resident=True)
    summary = summarise(streamed)
    use, inner = summary["offload"], 2.0 * sum(one.parameters for one in streamed.plan.work.layers[1:-1])
    assert use["moved_bytes"]["h2d"] == use["moved_bytes"]["d2h"] == pytest.approx(inner)
    assert use["tiers"]["host"]["peak_bytes"] == pytest.approx(inner)
    assert "backward" not in use["task_s"]
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0)
    assert summarise(resident)["offload"]["moved_bytes"]["h2d"] == 0.0
    assert resident.step_s <= streamed.step_s
    saved = resident.tier_peaks["GPU memory"].used_bytes - streamed.tier_peaks["GPU memory"].used_bytes
    assert saved == pytest.approx(inner * (1 - 3 / 24))  # three of its blocks are there


def test_ranks_bring_a_part_of_each_block_unless_they_bring_all() -> None:
    sliced, whole = run(2), run(2, sliced=False)
    moved = [summarise(one)["offload"]["moved_bytes"] for one in (sliced, whole)]
    assert moved[0]["h2d"] == pytest.approx(moved[1]["h2d"] / 2)
    assert moved[0]["d2h"] == pytest.approx(moved[1]["d2h"] / 2)
    assert sliced.step_s <= whole.step_s
