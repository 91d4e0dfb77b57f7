"""Experts in host memory or on drives: bytes follow misses, streams add up, and each mechanism is worth something."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.errors import DoesNotFitError, FleetcastError
from sim.graph.frames import busy
from sim.offload.inference_deployment import deploy_inference
from sim.offload.inference_run import InferenceRun, simulate_inference, writer_of
from sim.offload.inference_scenario import OffloadedInferenceScenario

HYBRID: dict[str, Any] = {"name": "hybrid_experts", "cached_experts_percent": 25.0, "pinned": False}
STORAGE: dict[str, Any] = {"name": "experts_on_storage"}


def run(policy: dict[str, Any], *, exact: bool = False, output: int = 9, **offload: Any) -> InferenceRun:
    return simulate_inference(scenario(policy, output=output, **offload), exact=exact)


def scenario(policy: dict[str, Any], *, model: str = "phi-mini-moe", output: int = 9, **offload: Any) -> Any:
    return OffloadedInferenceScenario.model_validate(
        {
            "model": {"config": model, "weight_dtype": "int4"},
            "cluster": {"node": "a6000-xeon-gold-1x"},
            "offload": {"policy": policy, **offload},
            "workload": {"prompt_tokens": 8, "output_tokens": output},
        }
    )


@pytest.mark.parametrize(
    "policy",
    [
        HYBRID,
        HYBRID | {"cache": "static", "batch_size": 2},
        HYBRID | {"cache": "lifo", "schedule": "copy", "prefetch_layers": 0},
        STORAGE | {"early_router": True, "cached_experts_percent": 40.0, "read_chunk_bytes": 65536.0},
        STORAGE | {"worker": "gpu", "cached_experts_percent": 40.0, "prefetch_layers": 2, "overlap": False},
    ],
)
def test_bytes_follow_misses_and_streams_and_pools_add_up(policy: dict[str, Any]) -> None:
    quick, exact = run(policy, output=5), run(policy, exact=True, output=5)
    assert quick.times.makespan_s == pytest.approx(exact.times.makespan_s, rel=1e-9)
    assert quick.counts == exact.counts
    count = exact.counts
    part = next(part for part in exact.deployment.job.parts if part.routed is not None)
    assert part.routed is not None
    moved = sum(count.get(f"{phase} moved", 0) for phase in ("prefill", "decode"))
    moved += count.get("fetched ahead", 0) + count.get("kept after use", 0)
    for phase in ("prefill", "decode"):
        assert count[f"{phase} visited"] == sum(count[f"{phase} {one}"] for one in ("cached", "moved", "cpu"))
    kinds, plan = exact.graph.kind, exact.deployment.plan
    routes = ["read"] * (policy["name"] == STORAGE["name"])
    routes += ["h2d_pageable" if not routes and not plan.pinned_weights else "h2d"] * (plan.kv.gpu == 1.0)
    for route in routes:
        carried = [one.size_bytes for one in exact.moved if one.route == route and kinds[one.task] == "load_weight"]
        assert len(carried) == moved
        assert sum(carried) == pytest.approx(moved * part.routed.expert_bytes)
    frame = busy(exact.graph, exact.times)
    assert (frame["busy_s"] + frame["idle_s"] == exact.times.makespan_s).all()
    for pool in range(len(exact.graph.pools)):
        changes = [one.change_bytes for one in exact.graph.memory if one.pool == pool]
        assert sum(changes) == pytest.approx(0.0, abs=1e-3)
    for tier, peak in exact.peaks.items():
        assert peak.used_bytes <= exact.deployment.budgets[tier]


def test_scheduling_and_caching_each_shorten_a_token_and_loading_on_demand_is_slowest() -> None:
    slow: dict[str, Any] = {"rates": {"cpu_stream_bytes_per_s": 5e9}, "output": 9}
    plain = HYBRID | {"cache": "static", "schedule": "cpu", "prefetch_layers": 0}
    base, scheduled, kept, demand = (
        run(plain | change, **slow).decode_s
        for change in ({}, {"schedule": "hybrid"}, {"cache": "score"}, {"schedule": "copy", "cache": "lru"})
    )
    assert scheduled < base
    assert kept < base
    assert demand > scheduled


def test_a_router_before_attention_hides_reads_and_memory_for_all_experts_leaves_none() -> None:
    policy = STORAGE | {"cached_experts_percent": 30.0}
    late, early = run(policy), run(policy | {"early_router": True})
    assert early.decode_s < late.decode_s
    assert early.counts == late.counts
    whole = run(STORAGE)
    assert whole.counts["decode moved"] == whole.counts["prefill moved"] == 0
    assert whole.decode_s < early.decode_s


@pytest.mark.parametrize(
    ("policy", "change", "said"),
    [
        (STORAGE, {"model": "opt-125m"}, "no experts"),
        (STORAGE, {"host_memory_bytes": 1e9}, "host memory has"),
        (HYBRID | {"activation": {"skwe": 0.3}}, {}, r"offload\.policy\.activation\.skwe: unknown key"),
        (HYBRID | {"batch_size": 90_000}, {}, "batch_size = 90000: prompts"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(policy: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetcastError, match=said):
        writer_of(deploy_inference(scenario(policy, **change)))


def test_experts_beyond_host_memory_are_not_blamed_on_the_batch() -> None:
    with pytest.raises(DoesNotFitError, match=r"GB too little \(experts .*weights alone take .* to drives"):
        run(HYBRID | {"batch_size": 4}, output=1, host_memory_bytes=3e9)
