"""Weights that copies share out: when parts gather and reduce, and what a list of tensors costs the host."""

from dataclasses import replace
from typing import Any

import pytest

from hardware_models.training_framework import WeightGathering
from policies.task_graph import TaskGraph
from sim.graph.executor import execute
from sim.graph.max_plus import max_plus
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.simulate import simulate_deployment
from sim.training.step_graph import StepGraphBuilder
from sim.training.step_kinds import GATHER, LAUNCH, REDUCE
from sim.training.study_figures import gradient_exchange_bytes_per_s
from sim.training.summary import summarise
from sim.training_scenario import TrainingScenario

PASSES = ("forward", "backward")


def scenario(**training: Any) -> TrainingScenario:
    keys = {
        "seq_length": 2048,
        "global_batch_size": 32,
        "sharding": "zero3",
        "recompute": "full",
        "check_memory": False,
    }
    return TrainingScenario.model_validate(
        {
            "model": {"config": "gpt3-6.7b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": 4},
            "training": keys | training,
        }
    )


def deployment(gathering: WeightGathering) -> TrainingDeployment:
    plain = deploy_training(scenario())
    return replace(plain, framework=plain.framework.model_copy(update={"gathering": gathering}))


def graph_of(gathering: WeightGathering) -> TaskGraph:
    return StepGraphBuilder(deployment(gathering)).build()


def seconds(graph: TaskGraph, *kinds: str) -> float:
    return sum(one for one, kind in zip(graph.duration_s, graph.kind, strict=True) if kind in kinds)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_gradients_go_while_the_backward_still_gathers(ahead: int) -> None:
    sharding = {"name": "zero3", "prefetch_layers": ahead}
    graph = StepGraphBuilder(deploy_training(scenario(sharding=sharding))).build()
    times = max_plus(graph)
    ends = {
        kind: [times.end_s[task] for task, one in enumerate(graph.kind) if one == kind] for kind in (GATHER, REDUCE)
    }
    assert sorted(ends[REDUCE])[len(ends[REDUCE]) // 2] < max(ends[GATHER])
    assert execute(graph).makespan_s == pytest.approx(times.makespan_s, rel=1e-9)


def test_a_collective_a_matrix_moves_the_same_bytes_in_more_steps() -> None:
    layers, matrices = graph_of(WeightGathering()), graph_of(WeightGathering(collectives_per_layer=4))
    assert matrices.kind.count(GATHER) == 4 * layers.kind.count(GATHER)
    assert seconds(matrices, GATHER) > seconds(layers, GATHER)
    assert seconds(matrices, *PASSES) == pytest.approx(seconds(layers, *PASSES), rel=1e-12)


def test_a_host_that_lists_every_ranks_tensor_takes_its_time_for_each_collective() -> None:
    listed = graph_of(WeightGathering(host_s_per_peer=1e-5, small_reduces=8))
    collectives = listed.kind.count(GATHER) + listed.kind.count(REDUCE)
    assert seconds(listed, LAUNCH) == pytest.approx(collectives * 32 * 1e-5, rel=1e-12)
    assert listed.kind.count(REDUCE) == 9 * graph_of(WeightGathering()).kind.count(REDUCE)


def test_who_waits_for_the_device_hides_less_and_who_forgets_weights_gathers_more() -> None:
    plain, waiting = (max_plus(graph_of(WeightGathering(synchronizes=one))).makespan_s for one in (False, True))
    assert waiting > plain
    gathers = [graph_of(WeightGathering(kept_parameters=kept)).kind.count(GATHER) for kept in (None, 1e9, 1e8)]
    assert gathers[0] == gathers[1]
    assert gathers[2] * 2 == gathers[0] * 3  # forward, forward again, and backward


@pytest.mark.parametrize("gradient_reduce", ["nccl", "hierarchical"])
def test_bandwidth_of_an_exchange_is_its_payload_over_its_time(gradient_reduce: str) -> None:
    one = scenario(sharding="none", gradient_reduce=gradient_reduce)
    exchanges, payload = Exchanges(deploy_training(one)), 1e8
    expected = payload / exchanges.reduce_s(payload / exchanges.gradient_width)
    assert gradient_exchange_bytes_per_s(one, payload) == expected
    assert gradient_exchange_bytes_per_s(one, payload) < gradient_exchange_bytes_per_s(one, 10 * payload)


def test_what_the_host_keeps_the_device_waiting_for_counts_as_the_hosts_share() -> None:
    found = summarise(simulate_deployment(deployment(WeightGathering(host_s_per_peer=1e-5, small_reduces=8))))
    plain = summarise(simulate_deployment(deployment(WeightGathering())))
    assert sum(found["bound_by"].values()) == pytest.approx(1.0, rel=1e-9)
    assert found["bound_by"]["host_fraction"] > plain["bound_by"]["host_fraction"]
    assert found["exposed"]["host_fraction"] == pytest.approx(found["bound_by"]["host_fraction"], rel=1e-12)
