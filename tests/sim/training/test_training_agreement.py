from typing import Any

import pytest

from hardware_models.errors import FleetcastError, ImpossibleError
from policies.parallelism.gradient_reduce import GRADIENT_REDUCE
from sim.graph.executor import execute
from sim.graph.max_plus import max_plus
from sim.training.data_parallel import Exchanges
from sim.training.deployment import deploy_training
from sim.training.result import run_training
from sim.training.step_graph import StepGraphBuilder
from sim.training.step_kinds import REDUCE
from sim.training_scenario import TrainingScenario

SLOW = "ethernet-10g"


def scenario(
    nodes: int = 4, node: str = "fire-flyer-2", network: str | None = None, **training: Any
) -> TrainingScenario:
    keys = {"seq_length": 1024, "global_batch_size": 64, "sharding": "none", "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "gpt2-medium"},
            "cluster": {"node": node, "nodes": nodes, "network": network},
            "training": keys | training,
        }
    )


def exchanges(**keys: Any) -> Exchanges:
    return Exchanges(deploy_training(scenario(**keys)))


def reduce_s(**keys: Any) -> float:
    one = exchanges(**keys)
    return one.reduce_s(one.device_parameters(0))


def step_s(**keys: Any) -> float:
    seconds: float = run_training(scenario(**keys)).summary["step_s"]
    return seconds


@pytest.mark.parametrize("name", sorted(GRADIENT_REDUCE))
def test_a_step_takes_as_long_on_the_clock_as_by_max_plus_however_copies_agree(name: str) -> None:
    graph = StepGraphBuilder(deploy_training(scenario(gradient_reduce=name))).build()
    assert execute(graph).makespan_s == pytest.approx(max_plus(graph).makespan_s, rel=1e-9)


@pytest.mark.parametrize("name", sorted(GRADIENT_REDUCE))
def test_a_step_exchanges_what_its_policy_says_once(name: str) -> None:
    one = exchanges(gradient_reduce=name)
    graph = StepGraphBuilder(one.deployment).build()
    busy = sum(seconds for seconds, kind in zip(graph.duration_s, graph.kind, strict=True) if kind == REDUCE)
    whole = one.reduce_s(one.device_parameters(0)) / one.agreement.every_steps
    assert busy == pytest.approx(whole, rel=0.1)  # parts of it have their latencies each


def test_levels_one_after_another_are_their_collectives() -> None:
    one = exchanges(gradient_reduce="hierarchical")
    size = one.device_parameters(0) * one.gradient_width
    hops = one.agreement.reduce(one.deployment.sharding, 32, 8, one.gradient_width)
    assert [(hop.kind, hop.ranks, hop.apart) for hop in hops] == [
        ("reduce_scatter", 8, 1),
        ("all_reduce", 4, 8),
        ("all_gather", 8, 1),
    ]
    sizes = (size, size / 8, size)
    fabrics = [one.hops.fabric(hop) for hop in hops]
    seconds = [
        float(fabric.seconds(hop.kind, part))
        for fabric, hop, part in zip(fabrics, hops, sizes, strict=True)
        if fabric is not None
    ]
    assert one.reduce_s(one.device_parameters(0)) == pytest.approx(sum(seconds))


def test_hosts_add_up_faster_than_rings_through_peers_of_one_card() -> None:
    assert reduce_s(gradient_reduce="hfreduce") < 0.7 * reduce_s(gradient_reduce="nccl")


def test_one_bit_moves_a_thirty_second_of_fp32_each_way_and_reads_a_good_deal() -> None:
    one = exchanges(gradient_reduce="one_bit_adam", network=SLOW)
    there, back = one.agreement.reduce(one.deployment.sharding, 32, 8, one.gradient_width)
    assert there.bytes_per_parameter == back.bytes_per_parameter == one.gradient_width / 32
    assert there.passes_bytes > 40
    assert reduce_s(gradient_reduce="one_bit_adam", network=SLOW) < reduce_s(network=SLOW) / 7


def test_a_warm_up_lies_between_adam_and_one_bit_by_its_share() -> None:
    plain, none = reduce_s(network=SLOW), reduce_s(gradient_reduce="one_bit_adam", network=SLOW)
    some = reduce_s(gradient_reduce={"name": "one_bit_adam", "warmup_fraction": 0.15}, network=SLOW)
    assert some == pytest.approx(0.15 * plain + 0.85 * none, rel=0.01)


def test_rounds_of_local_steps_take_steps_and_exchange_or_the_longer_of_both() -> None:
    """CO2 (arXiv 2401.16265): max(tau step, exchange) a round, where waiting takes tau step + exchange."""
    alone = run_training(scenario(gradient_reduce={"name": "co2", "steps": 10_000}, network=SLOW)).summary["step_s"]
    exchange = reduce_s(gradient_reduce="co2", network=SLOW)
    for steps in (1, 4, 64):
        beside = step_s(gradient_reduce={"name": "co2", "steps": steps}, network=SLOW)
        apart = step_s(gradient_reduce={"name": "local_updates", "steps": steps}, network=SLOW)
        assert beside == pytest.approx(max(alone, exchange / steps), rel=0.02)
        assert apart == pytest.approx(alone + exchange / steps, rel=0.02)


def test_servers_that_share_a_copy_inside_average_its_parts_between_them() -> None:
    one = exchanges(gradient_reduce="co2", sharding="hybrid_shard")
    inside = one.agreement.reduce(one.deployment.sharding, 32, 8, 2.0) + one.agreement.finish(
        one.deployment.sharding, 32, 2.0
    )
    (across,) = one.agreement.average(one.deployment.sharding, 32, 2.0)
    assert [(hop.kind, hop.ranks) for hop in inside] == [("reduce_scatter", 8)]
    assert (across.kind, across.ranks, across.apart, across.bytes_per_parameter) == ("all_reduce", 4, 8, 2.0 / 8)
    shared = {"gradient_reduce": {"name": "co2", "steps": 10_000}, "sharding": "hybrid_shard"}
    assert step_s(**shared, network=SLOW) == pytest.approx(step_s(nodes=1, global_batch_size=16, **shared), rel=1e-3)


def test_what_a_policy_keeps_is_held() -> None:
    held = {
        name: run_training(scenario(gradient_reduce=name)).summary["memory"]["peak_bytes"]
        for name in ("nccl", "one_bit_adam", "local_updates", "co2")
    }
    parameters = exchanges().device_parameters(0)
    assert held["one_bit_adam"] - held["nccl"] == pytest.approx(4 * parameters)
    assert held["co2"] - held["local_updates"] == pytest.approx(4 * parameters)


@pytest.mark.parametrize(
    ("name", "sharding"),
    [
        ("hfreduce", "zero2"),
        ("hfreduce", "three_level"),
        ("one_bit_adam", "zero1"),
        ("co2", "fsdp"),
        ("hierarchical", "zero3"),
    ],
)
def test_a_sharding_it_does_not_go_with_is_refused(name: str, sharding: str) -> None:
    with pytest.raises(ImpossibleError, match="does not go with ZeRO stage"):
        run_training(scenario(gradient_reduce=name, sharding=sharding))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "co2", "steps": 0}, "at least 1"),
        ({"name": "one_bit_adam", "warmup_fraction": 1.5}, "0 to 1"),
        ("hfreduc", "hfreduce"),
    ],
)
def test_wrong_keys_are_refused_in_one_sentence(choice: Any, words: str) -> None:
    with pytest.raises(FleetcastError, match=words):
        run_training(scenario(gradient_reduce=choice))
