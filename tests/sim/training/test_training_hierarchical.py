from typing import Any

import pytest

from sim.graph.executor import execute
from sim.graph.max_plus import lower_bound_s, max_plus
from sim.graph.memory import memory_profile
from sim.training.data_parallel import Exchanges
from sim.training.deployment import deploy_training
from sim.training.result import run_training
from sim.training.step_graph import StepGraphBuilder
from sim.training.step_kinds import GATHER, REDUCE
from sim.training_scenario import TrainingScenario

NAMES = ["hybrid_shard", "zero_plus_plus", "three_level"]


def scenario(nodes: int = 4, model: str = "gpt3-6.7b", **training: Any) -> TrainingScenario:
    keys = {"seq_length": 2048, "global_batch_size": 64, "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": model},
            "cluster": {"node": "mi250x-4x", "nodes": nodes},
            "training": keys | training,
        }
    )


def busy_s(keys: Any, *kinds: str) -> float:
    graph = StepGraphBuilder(deploy_training(scenario(sharding=keys))).build()
    return sum(seconds for seconds, kind in zip(graph.duration_s, graph.kind, strict=True) if kind in kinds)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_takes_as_long_on_the_clock_as_by_max_plus(name: str) -> None:
    graph = StepGraphBuilder(deploy_training(scenario(sharding=name))).build()
    assert execute(graph).makespan_s == pytest.approx(max_plus(graph).makespan_s, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_gives_back_its_memory_and_is_no_faster_than_its_bound(name: str) -> None:
    graph = StepGraphBuilder(deploy_training(scenario(sharding=name, pipeline_parallel_size=2))).build()
    times = execute(graph)  # sends and exchanges share cards
    assert times.makespan_s >= lower_bound_s(graph)
    for pool in range(len(graph.pools)):
        _, used = memory_profile(graph, times, pool)
        assert used[-1] == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize(
    "wide",
    [
        {"name": "hybrid_shard", "shard_size": 32},
        {"name": "three_level", "weight_ranks": 32, "gradient_ranks": 32},
        {
            "name": "zero_plus_plus",
            "quantized_weights": False,
            "quantized_gradients": False,
            "secondary_partition": False,
        },
    ],
)
def test_with_the_widest_groups_a_step_is_that_of_stage_three(wide: dict[str, Any]) -> None:
    plain, same = (run_training(scenario(sharding=keys)).summary for keys in ("zero3", wide))
    assert same["step_s"] == pytest.approx(plain["step_s"], rel=1e-12)
    assert same["memory"]["peak_bytes"] == pytest.approx(plain["memory"]["peak_bytes"])


def test_exchanges_take_the_time_of_their_collectives_one_after_another() -> None:
    """Three levels: every micro-batch gathers twice in pairs and reduces in servers; once a step the rest moves."""
    deployment = deploy_training(scenario(sharding="three_level"))
    exchanges, policy = Exchanges(deployment), deployment.sharding
    layers = deployment.stage_layers[0]
    part = deployment.stages[0].parameters / layers
    ranks, batches = exchanges.ranks, deployment.layout.micro_batches

    def seconds(hops: Any) -> float:
        return layers * exchanges.hops.seconds(hops, part)

    gather = seconds(policy.refresh(ranks, 2.0)) + 2 * batches * seconds(policy.gather(ranks, 2.0))
    reduce = seconds(policy.finish(ranks, 4.0)) + batches * seconds(policy.reduce(ranks, 4.0))
    assert busy_s("three_level", GATHER) == pytest.approx(gather)
    assert busy_s("three_level", REDUCE) == pytest.approx(reduce)


def test_what_is_gathered_inside_a_server_takes_less_time() -> None:
    seconds = []
    for name in ("zero3", "zero_plus_plus", "three_level"):
        exchanges = Exchanges(deploy_training(scenario(sharding=name)))
        hops = exchanges.deployment.sharding.gather(exchanges.ranks, 2.0, backward=True)
        seconds.append(exchanges.hops.seconds(hops, 1e9))
    assert max(seconds[1:]) < 0.5 * seconds[0]


def test_four_bit_gradients_take_less_time_than_sixteen_and_those_less_than_thirty_two() -> None:
    quantized = busy_s({"name": "zero_plus_plus"}, REDUCE)
    plain = {"name": "zero_plus_plus", "quantized_gradients": False}
    half = scenario(sharding=plain, grad_reduce_in_bf16=True)
    deployment = deploy_training(half)
    graph = StepGraphBuilder(deployment).build()
    sixteen = sum(seconds for seconds, kind in zip(graph.duration_s, graph.kind, strict=True) if kind == REDUCE)
    assert quantized < sixteen < busy_s(plain, REDUCE)


def test_memory_says_what_nearer_gathering_costs() -> None:
    held = {name: run_training(scenario(sharding=name)).summary["memory"]["owners"] for name in ("zero3", *NAMES)}
    assert held["zero3"]["weights"] < held["zero_plus_plus"]["weights"] < held["three_level"]["weights"]
    assert held["three_level"]["optimizer"] == pytest.approx(held["zero3"]["optimizer"])
    assert held["hybrid_shard"]["optimizer"] == pytest.approx(4 * held["zero3"]["optimizer"])


def test_gradients_in_bf16_are_exchanged_in_half_the_time() -> None:
    seconds = []
    for half in (False, True):
        exchanges = Exchanges(deploy_training(scenario(sharding="zero1", grad_reduce_in_bf16=half)))
        seconds.append(exchanges.reduce_s(1e10))
    assert seconds[1] == pytest.approx(seconds[0] / 2, rel=0.02)
