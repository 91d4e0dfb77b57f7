"""Attention inside drives: pages are whole, bytes add up, and only vectors cross the link while decoding."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.errors import FleetcastError
from policies.offload.storage_attention import StoragePlan, pages
from sim.graph.frames import busy
from sim.offload.inference_run import InferenceRun, simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario


def run(server_drives: int | None = None, **keys: Any) -> InferenceRun:
    policy = {"name": "storage_attention", "batch_size": 8, "kv_heads": 12, "head_dim": 64, **keys}
    scenario = OffloadedInferenceScenario.model_validate(
        {
            "model": {"config": "opt-125m", "weight_dtype": "fp16", "kv_cache_dtype": "fp16"},
            "cluster": {"node": "a6000-1x"},
            "offload": {"policy": policy, "drives": server_drives},
            "workload": {"prompt_tokens": 512, "output_tokens": 4},
        }
    )
    return simulate_inference(scenario, exact=True)


def test_bytes_and_streams_add_up_and_only_vectors_cross_the_link_while_decoding() -> None:
    done = run()
    job, plan = done.deployment.job, done.deployment.plan
    written = sum(one.size_bytes for one in done.moved if one.route == "write")
    assert written == pytest.approx(job.kv_bytes * job.kv_tokens * plan.sequences)
    up = sum(one.size_bytes for one in done.moved if one.route == "h2d")
    assert up == pytest.approx(job.hidden_bytes * plan.sequences * 3 * 12)
    frame = busy(done.graph, done.times)
    assert (frame["busy_s"] + frame["idle_s"] == done.times.makespan_s).all()
    read = done.counts["flash pages"] * 4096.0 / 11.2e9
    store = sum(s for task, s in enumerate(done.graph.duration_s) if done.graph.kind[task] == "store_cache")
    drives = frame[frame["stream"] == "drives"]["busy_s"].sum() if "stream" in frame else read + store
    assert drives == pytest.approx(read + store, rel=1e-3)


def test_more_drives_and_fewer_pages_shorten_decoding_and_scattered_tokens_touch_most_pages() -> None:
    dense, wide, sparse = run(), run(drives=4), run(density=0.125, run_tokens=16)
    assert wide.decode_s < dense.decode_s
    assert sparse.decode_s < dense.decode_s
    one, eight = (run(server_drives=drives, batch_size=64).prefill_s for drives in (1, 8))
    assert one == pytest.approx(eight, rel=0.02)  # of the server's drives one attends
    plan = sparse.deployment.plan
    assert isinstance(plan, StoragePlan)
    whole = 2.0 * 4096 * 128.0 / 4096.0
    for run_tokens, share in ((1, 1.0), (32, 1 / 8 + 1 / 16)):
        scattered = run(density=0.125, run_tokens=run_tokens).deployment.plan
        assert isinstance(scattered, StoragePlan)
        assert pages(scattered, 4096) == pytest.approx(share * whole, rel=0.06)


@pytest.mark.parametrize(("key", "value"), [("kv_heads", 16), ("batch_size", 7)])
def test_heads_that_the_model_does_not_have_and_unequal_batches_are_refused(key: str, value: int) -> None:
    with pytest.raises(FleetcastError, match=f"{key} = {value}"):
        run(**{key: value})
