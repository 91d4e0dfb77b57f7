"""Neurons read by need: bytes follow what the window lacks, and every stage of LLM in a flash reads less or faster."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.errors import ImpossibleError
from sim.graph.frames import busy
from sim.offload.inference_run import InferenceRun, simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario


def run(*, exact: bool = False, model: str = "opt-125m", **keys: Any) -> InferenceRun:
    scenario = OffloadedInferenceScenario.model_validate(
        {
            "model": {"config": model, "weight_dtype": "fp16"},
            "cluster": {"node": "rtx-4090-workstation"},
            "offload": {"policy": {"name": "llm_in_flash", **keys}, "rates": {"storage_read_latency_s": 2e-4}},
            "workload": {"prompt_tokens": 8, "output_tokens": 4},
        }
    )
    return simulate_inference(scenario, exact=exact)


def read_bytes(done: InferenceRun) -> float:
    """While decoding."""
    start = done.times.start_s
    return sum(one.size_bytes for one in done.moved if one.route == "read" and start[one.task] >= done.prefill_s)


@pytest.mark.parametrize("keys", [{}, {"worker": "gpu", "window_tokens": 2}, {"window_tokens": 0, "bundled": False}])
def test_reads_are_the_neurons_that_the_window_lacks_and_all_adds_up(keys: dict[str, Any]) -> None:
    done, exact = run(**keys), run(exact=True, **keys)
    assert done.times.makespan_s == pytest.approx(exact.times.makespan_s, rel=1e-9)
    mlp = next(part for part in done.deployment.job.parts if part.neurons)
    assert read_bytes(done) == pytest.approx(done.counts["neurons read"] * mlp.weight_bytes / mlp.neurons)
    assert done.counts["neurons read"] <= done.counts["neurons named"] <= done.counts["neurons computed"]
    if keys.get("window_tokens") == 0:
        assert len(set(done.counts.values())) == 1
    frame = busy(done.graph, done.times)
    assert (frame["busy_s"] + frame["idle_s"] == done.times.makespan_s).all()
    for pool in range(len(done.graph.pools)):
        changes = [one.change_bytes for one in done.graph.memory if one.pool == pool]
        assert sum(changes) == pytest.approx(0.0, abs=1e-3)


def test_each_stage_of_the_paper_shortens_a_token() -> None:
    stages: list[dict[str, Any]] = [
        {"predictor": False},
        {"predictor": False, "kept_fraction": 0.5},
        {"window_tokens": 5, "bundled": False},
        {},
    ]
    runs = [run(**keys) for keys in stages]
    seconds = [one.decode_s for one in runs]
    assert seconds == sorted(seconds, reverse=True)
    assert read_bytes(runs[0]) == pytest.approx(3 * runs[0].deployment.job.weight_bytes)
    assert read_bytes(runs[1]) == pytest.approx(read_bytes(runs[0]) / 2.0)
    assert read_bytes(runs[2]) == read_bytes(runs[3]) < read_bytes(runs[1])


def test_a_model_of_experts_has_no_neurons_to_read() -> None:
    with pytest.raises(ImpossibleError, match="take experts_on_storage"):
        run(model="mixtral-8x7b")
