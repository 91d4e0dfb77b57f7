from typing import Any

import pytest

from hardware_models import catalog
from hardware_models.collectives import Fabric, HierarchicalFabric
from hardware_models.errors import FleetcastError, ImpossibleError
from sim.graph.executor import execute
from sim.graph.max_plus import max_plus
from sim.training.context_pricing import ContextLinks, steps_spent
from sim.training.deployment import deploy_training
from sim.training.pricing import Spent
from sim.training.result import run_training
from sim.training.step_graph import StepGraphBuilder
from sim.training_scenario import TrainingScenario
from workloads.training.context import ContextShare, Ring, Ulysses
from workloads.training.cut import Cut
from workloads.training.operator import TrainingOp

NAMES = ["ring", "ulysses", "token_ring", "all_gather"]


def share(cp: int) -> ContextShare:
    return ContextShare(cut=Cut(micro_batch=1, seq_length=32768, cp=cp), heads=32, kv_heads=8, qk_dim=128, v_dim=128)


def links(name: str, ranks: int) -> ContextLinks:
    fabric = Fabric(catalog.link(name), ranks, custom_all_reduce=False)
    return ContextLinks(fabric, Fabric(catalog.link(name), 2, custom_all_reduce=False))


def takes(seconds: float) -> Any:
    def priced(_: TrainingOp) -> Spent:
        return Spent(compute_s=seconds)

    return priced


def scenario(nodes: int = 2, **training: Any) -> TrainingScenario:
    keys = {"seq_length": 8192, "global_batch_size": 16, "check_memory": False, "context_parallel_size": 4}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "dgx-h100", "nodes": nodes},
            "training": keys | training,
        }
    )


def test_a_ring_whose_blocks_outlast_its_sends_hides_them_all() -> None:
    spent = steps_spent(Ring().forward(share(4)), links("nvlink4-switch", 4), takes(1.0))
    assert spent.network_s == 0.0
    assert spent.seconds == pytest.approx(4 + 3)  # four blocks, three of them joined to what stands


def test_a_ring_whose_blocks_take_nothing_takes_its_sends_one_after_another() -> None:
    on, one = links("infiniband-ndr", 4), share(4)
    spent = steps_spent(Ring().forward(one), on, takes(0.0))
    assert spent.seconds == spent.network_s == spent.context_s
    assert spent.seconds == pytest.approx(3 * float(on.fabric.seconds("send_recv", one.key_bytes)))


def test_ulysses_hides_nothing() -> None:
    on, one = links("nvlink4-switch", 4), share(4)
    spent = steps_spent(Ulysses().forward(one), on, takes(1.0))
    both = on.fabric.seconds("all_to_all", one.query_bytes + one.key_bytes) + on.fabric.seconds(
        "all_to_all", one.output_bytes
    )
    assert spent.network_s == pytest.approx(float(both))


def test_two_sends_share_a_port_but_not_a_mesh() -> None:
    switch, mesh = links("nvlink4-switch", 4), links("xgmi-mi300x", 4)
    size = 1e8
    assert switch.sends_s([size, size]) == pytest.approx(float(switch.fabric.seconds("send_recv", 2 * size)))
    assert mesh.sends_s([size, size]) == mesh.sends_s([size])


def test_ranks_that_share_a_host_send_more_slowly_the_more_they_are() -> None:
    two, eight = links("pcie4-x16", 2).sends_s([1e8]), links("pcie4-x16", 8).sends_s([1e8])
    assert eight > 2 * two


def test_a_ring_across_servers_goes_at_the_pace_of_the_network() -> None:
    inner, outer = Fabric(catalog.link("nvlink4-switch"), 8), Fabric(catalog.link("infiniband-ndr"), 2)
    on = ContextLinks(HierarchicalFabric(inner, outer), inner)
    assert on.sends_s([1e8]) == pytest.approx(float(outer.seconds("send_recv", 1e8)))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_takes_as_long_on_the_clock_as_by_max_plus_however_sequences_are_shared(name: str) -> None:
    graph = StepGraphBuilder(deploy_training(scenario(context_parallel=name, recompute="selective"))).build()
    by_max_plus, on_clock = max_plus(graph), execute(graph)
    assert on_clock.makespan_s == pytest.approx(by_max_plus.makespan_s, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_sharing_a_long_sequence_costs_a_few_percent_over_whole_sequences(name: str) -> None:
    """Same GPUs, same tokens: only exchanges and smaller kernels are lost."""
    long = {"seq_length": 65536, "global_batch_size": 16}
    alone = run_training(scenario(context_parallel_size=1, **long)).summary
    shared = run_training(scenario(context_parallel=name, **long)).summary
    assert 1.0 < shared["step_s"] / alone["step_s"] < 1.12
    assert shared["memory"]["owners"]["activations"] < 0.3 * alone["memory"]["owners"]["activations"]
    assert alone["exposed"]["context_parallel_fraction"] == 0.0


def test_attention_costs_each_rank_its_part_of_all_pairs_of_tokens() -> None:
    """A rank's arithmetic is the whole sequence's divided by the ranks, not that of its own tokens alone."""
    flop = []
    for cp in (1, 4):
        work = deploy_training(scenario(context_parallel_size=cp)).stages[0]
        flop.append(work.forward.matrix_flop)
    assert flop[1] == pytest.approx(flop[0] / 4)


def test_a_wrong_name_and_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(FleetcastError, match="token_ring"):
        deploy_training(scenario(context_parallel="tokenring"))
    with pytest.raises(ImpossibleError, match="ulysses divides heads"):
        deploy_training(scenario(context_parallel="ulysses", context_parallel_size=16))
