"""Every released timing and verdict on memory of Hagemann et al. (arXiv 2311.05610), where their table is at hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sim.study import load_study, scenario_of
from sim.study_point import Point
from sim.training.simulate import simulate_training
from sim.training_scenario import TrainingScenario

FOLDER = Path(__file__).parents[3] / "shared" / "claims"
TABLES = ("training.csv", "training_bulk.csv")
ATTENTION = {"fused": "standard", "torch": "standard", "flash_attention": "flash1", "flash_attentionv1.0.8": "flash1"}
MODELS = {40: "llama-13b", 60: "llama-30b"}
OOM, STEP = "OOM", "iteration_time"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all((FOLDER / name).is_file() for name in TABLES), reason="needs the table of claims"),
]


@functools.cache
def rows() -> pd.DataFrame:
    """A row a plan: what was measured, its simulated seconds, and its peak over what tensors may take."""
    claims = pd.concat([pd.read_csv(FOLDER / name, dtype=str) for name in TABLES], ignore_index=True)
    mine = claims[claims["paper_arxiv"] == "2311.05610"]
    mine = mine[(mine["metric"] == STEP) | (mine["value"] == OOM)].copy()
    mine["kernel"] = mine["notes"].str.extract(r"kernel=([^;]+)")[0].str.strip()
    simulated = [_simulated({str(key): value for key, value in row.items()}) for row in mine.to_dict("records")]
    mine[["step_s", "full"]] = simulated
    return mine


def _simulated(row: dict[str, Any]) -> tuple[float, float]:
    study = load_study("training/hagemann-2023")
    kernel, long = row["kernel"], row["seq_len"] == "8192"
    tables: dict[str, Any] = {
        "model.config": MODELS[int(row["layers"])],
        "cluster.nodes": int(row["num_gpus"]) // 8,
        "training.seq_length": int(row["seq_len"]),
        "training.global_batch_size": 512 if long else 2048,
        "training.micro_batch_size": int(row["micro_batch"]),
        "training.tensor_parallel_size": int(row["tp"]),
        "training.pipeline_parallel_size": int(row["pp"]),
        "training.sequence_parallel": "sequence_parallel=True" in row["notes"],
        "training.recompute": row["recompute"],
        "training.attention": ATTENTION.get(kernel, "flash2"),
        "training.fused_norm": "RMS" in kernel,
        "training.fused_softmax": kernel != "torch",
    }
    scenario = scenario_of(study, Point(name="row", metric="step_s", set=tables), {}, row["id"])
    assert isinstance(scenario, TrainingScenario)
    run = simulate_training(scenario)
    return run.step_s, run.memory.peaks[run.memory.worst].used_bytes / run.memory.budget_bytes


def timed() -> pd.DataFrame:
    """Rows with a time, and how far the simulated one is off."""
    found = rows()[rows()["metric"] == STEP].copy()
    found["measured_s"] = found["value"].astype(float)
    found["error"] = found["step_s"] / found["measured_s"] - 1.0
    return found


def test_all_rows_are_there() -> None:
    assert len(timed()) == 237
    assert (rows()["value"] == OOM).sum() == 247


def test_steps_are_within_a_fifth_of_what_was_measured() -> None:
    found = timed()
    print(found.groupby("table_or_figure")["error"].describe())
    assert found["error"].abs().mean() < 0.17
    with_fused_norms = found[found["kernel"].str.contains("RMS") & (found["num_gpus"].astype(int) < 256)]
    assert with_fused_norms["error"].abs().mean() < 0.08


def test_plans_are_ranked_within_a_sweep() -> None:
    found = timed()
    ranks = {
        name: part["step_s"].corr(part["measured_s"], method="spearman")
        for name, part in found.groupby("table_or_figure")
        if len(part) > 2
    }
    print(ranks)
    assert sorted(ranks.values())[len(ranks) // 2] > 0.8
    assert min(ranks.values()) > 0.6


def test_plans_that_ran_out_of_memory_are_told_from_those_that_did_not() -> None:
    said, was = rows()["full"] > 1.0, rows()["value"] == OOM
    both = int((said & was).sum())
    print(f"precision {both / said.sum():.3f}, recall {both / was.sum():.3f}")
    assert both / said.sum() > 0.95
    assert both / was.sum() > 0.89
