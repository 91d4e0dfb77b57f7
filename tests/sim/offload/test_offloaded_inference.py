"""Offloaded inference: what its schedule conserves, what overlap and memory are worth, and what the search finds."""

from __future__ import annotations

import itertools
import random
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import DoesNotFitError, FleetcastError, ImpossibleError
from policies.offload.block_plan import TIERS, BlockPlan, Split, placed
from policies.offload.flexgen_search import FlexGenSearch
from sim.graph.frames import busy
from sim.offload.inference_deployment import InferenceDeployment, deploy_inference
from sim.offload.inference_result import run_inference
from sim.offload.inference_run import simulate_deployed
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario_file import parse_any, scenario_toml

SLOW = {"storage_read_bytes_per_s": 2e9, "cpu_attention_flop_per_s": 12.3e9, "d2h_cache_bytes_per_s": 1e9}


def scenario(
    policy: dict[str, Any], *, model: str = "opt-125m", prompt: int = 64, output: int = 3, **offload: Any
) -> Any:
    return OffloadedInferenceScenario.model_validate(
        {
            "model": {"config": model, "weight_dtype": "fp16", "kv_cache_dtype": "fp16"},
            "cluster": {"node": "t4-1x"},
            "offload": {"policy": policy, "rates": SLOW, **offload},
            "workload": {"prompt_tokens": prompt, "output_tokens": output},
        }
    )


BASE = deploy_inference(scenario({"name": "zero_inference", "batch_size": 1}))
thirds = st.tuples(*[st.integers(0, 4)] * 3).filter(any).map(lambda t: Split(*(one / sum(t) for one in t)))
plans = st.builds(
    BlockPlan,
    weights=thirds,
    kv=thirds,
    activations=thirds,
    gpu_batch_size=st.integers(1, 4),
    num_gpu_batches=st.integers(1, 3),
    compress_weights=st.booleans(),
    cpu_attention=st.booleans(),
    whole_tensors=st.booleans(),
    prefetch_parts=st.integers(0, 3),
)


def deployed(plan: BlockPlan, base: InferenceDeployment = BASE) -> InferenceDeployment:
    return replace(base, plan=plan)


@settings(max_examples=4, deadline=None)
@given(plan=plans, overlap=st.sampled_from(("synchronised", "asynchronous", "none")))
def test_bytes_and_time_are_conserved_and_simpy_agrees_with_max_plus(plan: BlockPlan, overlap: Any) -> None:
    on = deployed(replace(plan, overlap=overlap))
    exact, quick = simulate_deployed(on, exact=True), simulate_deployed(on, run_steps=5)
    assert quick.times.makespan_s == pytest.approx(exact.times.makespan_s, rel=1e-12)
    frame = busy(exact.graph, exact.times)
    assert (frame["busy_s"] + frame["idle_s"] == exact.times.makespan_s).all()
    assert exact.prefill_s + exact.decode_s == pytest.approx(exact.times.makespan_s, rel=1e-9)
    for pool in range(len(TIERS)):
        changes = [one.change_bytes for one in exact.graph.memory if one.pool == pool]
        assert sum(changes) == pytest.approx(0.0, abs=1e-6 * max(1.0, *map(abs, changes), 1.0))
    weights = {tier: sum(placed(plan, part)[tier] for part in on.job.parts) for tier in TIERS}
    steps, kinds = on.job.output_tokens, exact.graph.kind
    up = sum(one.size_bytes for one in exact.moved if kinds[one.task] == "load_weight" and one.route != "read")
    read = sum(one.size_bytes for one in exact.moved if kinds[one.task] == "load_weight" and one.route == "read")
    assert up == pytest.approx(steps * (weights["host"] + weights["storage"]), rel=1e-9)
    assert read == pytest.approx(steps * weights["storage"], rel=1e-9)
    written = sum(one.size_bytes for one in exact.moved if kinds[one.task] == "store_cache" and one.route == "write")
    cached = on.job.kv_bytes * on.job.kv_tokens * plan.sequences * plan.kv.storage
    assert written == pytest.approx(cached, rel=1e-9, abs=1e-6)


@settings(max_examples=4, deadline=None)
@given(plan=plans)
def test_overlap_is_never_slower_than_none(plan: BlockPlan) -> None:
    alone = simulate_deployed(deployed(replace(plan, overlap="none"))).block_s
    assert simulate_deployed(deployed(replace(plan, overlap="synchronised"))).block_s <= alone * (1 + 1e-9)
    ahead = replace(plan, overlap="asynchronous")
    assert simulate_deployed(deployed(ahead)).block_s <= alone * (1 + 1e-9)


def test_steps_between_those_that_were_run_are_foretold_within_a_thousandth_and_never_too_fast() -> None:
    policy = {"name": "flexgen", "weights": [20, 40], "kv_cache": [0, 50], "activations": [0, 100],
              "gpu_batch_size": 4, "num_gpu_batches": 2, "cpu_attention": True}  # fmt: skip
    on = deploy_inference(scenario(policy, output=30))
    quick, whole = simulate_deployed(on), simulate_deployed(on, run_steps=29)
    assert whole.block_s <= quick.block_s * (1 + 1e-9)
    assert quick.block_s == pytest.approx(whole.block_s, rel=1e-3)


def _small(gpu_gb: float, host_gb: float) -> InferenceDeployment:
    """A model that does not fit the GPU, on budgets of its own."""
    base = deploy_inference(
        scenario({"name": "zero_inference", "batch_size": 1}, model="opt-1.3b", prompt=512, output=16)
    )
    return replace(base, budgets={"gpu": gpu_gb * 1e9, "host": host_gb * 1e9, "storage": base.budgets["storage"]})


def _s_per_sequence(on: InferenceDeployment, plan: BlockPlan) -> float:
    try:
        return simulate_deployed(replace(on, plan=plan), run_steps=3).s_per_sequence
    except DoesNotFitError:
        return np.inf


@pytest.mark.parametrize(("gpu_gb", "host_gb", "cpu"), [(1.5, 2.0, False), (2.0, 2.5, True)])
def test_the_search_comes_within_five_percent_of_the_best_that_random_steps_find(
    gpu_gb: float, host_gb: float, cpu: bool
) -> None:
    on, chance = _small(gpu_gb, host_gb), random.Random(1)
    search = FlexGenSearch(gpu_batch_size=32, num_gpu_batches=1, cpu_attention=cpu)
    found = {_s_per_sequence(on, plan): plan for plan in search.plans(on.job, on.prices, on.budgets)}
    searched = best = min(found)
    at = found[best]
    for _ in range(10):
        key = chance.choice(("weights", "kv", "activations"))
        split = getattr(at, key)
        shares = [split.gpu, split.host, split.storage]
        giver, taker = chance.sample(range(3), 2)
        moved = min(shares[giver], 0.3 * chance.random())
        shares[giver] -= moved
        shares[taker] += moved
        changed: dict[str, Any] = {key: Split(*shares)}
        tried = replace(at, **changed)
        if (seconds := _s_per_sequence(on, tried)) < best:
            best, at = seconds, tried
    assert searched <= 1.05 * best
    spread = [Split(*shares) for shares in ((0, 0, 1), (0.2, 0.3, 0.5))]
    grid = min(_s_per_sequence(on, replace(at, weights=w, kv=c)) for w, c in itertools.product(spread, spread))
    assert searched <= 1.05 * grid < np.inf


def test_more_host_memory_never_makes_the_searchs_optimum_worse() -> None:
    found = []
    for host_gb in (0.5, 1.0, 2.0, 4.0, 8.0):
        on = _small(1.5, host_gb)
        search = FlexGenSearch(gpu_batch_size=8, num_gpu_batches=2)
        found.append(search.candidates(on.job, on.prices, on.budgets)[0].block_s)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9 * found[0]


def test_a_plan_beyond_a_tier_says_which_by_how_much_and_what_would_fit() -> None:
    big = {"name": "zero_inference", "batch_size": 4000}
    with pytest.raises(DoesNotFitError, match=r"GPU memory would hold .* too little .* of 4000 sequences .*would fit"):
        run_inference(scenario(big, model="opt-1.3b", prompt=512, output=32))
    with pytest.raises(ImpossibleError, match="has no drives"):
        run_inference(scenario({"name": "zero_inference", "batch_size": 1, "weights": "nvme"}, drives=0))
    with pytest.raises(FleetcastError, match="two percentages"):
        run_inference(scenario({"name": "accelerate", "batch_size": 1, "weights": [80, 80]}))


def test_a_summarys_shares_sum_to_one_and_its_scenario_loads_back() -> None:
    asked = scenario({"name": "flexgen_search", "simulated": 1, "gpu_batch_size": 8}, model="opt-1.3b", output=4)
    result = run_inference(asked)
    summary = result.summary
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0)
    assert summary["output_throughput"] * summary["duration_s"] == pytest.approx(summary["requests"] * 4)
    assert all(one["fits"] for one in summary["memory"].values())
    assert parse_any(tomllib.loads(scenario_toml(asked)), "again", Path()) == asked
