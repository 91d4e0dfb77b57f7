"""Sweeps over weights in host memory: each carries the model once, and mixing prompts into them pays."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.errors import ImpossibleError
from sim.graph.frames import busy
from sim.offload.inference_run import InferenceRun, simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario


def run(*, host_gb: float = 40.0, **keys: Any) -> InferenceRun:
    scenario = OffloadedInferenceScenario.model_validate(
        {
            "model": {"config": "qwen1.5-moe-a2.7b"},
            "cluster": {"node": "a40-8x"},
            "offload": {"policy": {"name": "moe_lens", **keys}, "host_memory_bytes": host_gb * 1e9},
            "workload": {"prompt_tokens": 128, "output_tokens": 8},
        }
    )
    return simulate_inference(scenario, exact=True)


@pytest.mark.parametrize("mixed", [True, False])
def test_every_sweep_carries_the_model_once_and_all_adds_up(mixed: bool) -> None:
    done = run(mixed=mixed, sequences=8)
    job, plan, kinds = done.deployment.job, done.deployment.plan, done.graph.kind
    up = sum(one.size_bytes for one in done.moved if one.route == "h2d" and kinds[one.task] == "load_weight")
    assert up == pytest.approx(8 * job.weight_bytes)
    stored = sum(one.size_bytes for one in done.moved if kinds[one.task] == "store_cache")
    assert stored == pytest.approx(job.kv_bytes * 128 * plan.sequences)
    frame = busy(done.graph, done.times)
    assert (frame["busy_s"] + frame["idle_s"] == done.times.makespan_s).all()
    for pool in range(len(done.graph.pools)):
        changes = [one.change_bytes for one in done.graph.memory if one.pool == pool]
        assert sum(changes) == pytest.approx(0.0, abs=1.0)
    weights = sum(done.deployment.prices.copy_s("h2d", part.weight_bytes) for part in job.parts)
    assert done.block_s >= 8 * weights * (1 - 1e-9)


def test_mixed_sweeps_hold_more_sequences_and_finish_more_tokens_a_second() -> None:
    mixed, phases = run(), run(mixed=False)
    assert mixed.deployment.plan.sequences >= phases.deployment.plan.sequences
    assert mixed.s_per_sequence < phases.s_per_sequence
    for done in (mixed, phases):
        for tier, peak in done.peaks.items():
            assert peak.used_bytes <= done.deployment.budgets[tier]


def test_memory_without_room_for_keys_and_values_is_refused() -> None:
    with pytest.raises(ImpossibleError, match=r"no room for keys and values .* give \d.* at least"):
        run(host_gb=28.0)
