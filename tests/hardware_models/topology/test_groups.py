"""A group's fabric: its ranks' places, and its share of cards and switches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.collectives import Fabric, HierarchicalFabric
from hardware_models.errors import ImpossibleError
from hardware_models.specs import ClusterSpec, PcieSwitch
from hardware_models.topology.groups import RankGroup, group_fabric, rank_groups, scale_up_link, tensor_fabric
from hardware_models.topology.placement import Placement
from hardware_models.variation import parse_change, vary_node
from hardware_models.variation_file import write_variation

H100 = catalog.node("dgx-h100")


def shape(fabric):
    """(link, GB/s, ranks) of each level, inner first."""
    if isinstance(fabric, HierarchicalFabric):
        return shape(fabric.inner) + shape(fabric.outer)
    return [(fabric.link.name, pytest.approx(fabric.link.bandwidth_bytes_per_s / 1e9), fabric.ranks)]


def cluster(**changes) -> ClusterSpec:
    table = {
        "name": "test", "node": "dgx-h100", "nodes": 64, "network": "infiniband-ndr", "nodes_per_leaf": 8,
        "oversubscription": 1.0, "routing": "adaptive",
    }  # fmt: skip
    return ClusterSpec.model_validate(table | changes)


def network_gb_per_s(fabric):
    return (fabric.outer if isinstance(fabric, HierarchicalFabric) else fabric).link.bandwidth_bytes_per_s / 1e9


@pytest.mark.parametrize(
    ("stride", "size", "expected"),
    [
        (1, 8, [("nvlink4-switch", 450, 8)]),
        (2, 4, [("nvlink4-switch", 450, 4)]),
        (4, 2, [("nvlink4-switch", 450, 2)]),
        (8, 32, [("infiniband-ndr", 50, 32)]),
        (1, 64, [("nvlink4-switch", 450, 8), ("infiniband-ndr", 50, 8)]),
        (2, 8, [("nvlink4-switch", 450, 4), ("infiniband-ndr", 50, 2)]),
        (4, 16, [("nvlink4-switch", 450, 2), ("infiniband-ndr", 50, 8)]),
        (64, 2, [("infiniband-ndr", 50, 2)]),
        (1, 1, [("nvlink4-switch", 450, 1)]),
        (16, 1, [("nvlink4-switch", 450, 1)]),
    ],
)
def test_groups_of_eight_gpu_servers_lie_where_their_stride_puts_them(stride, size, expected):
    assert shape(group_fabric(H100, RankGroup(stride, size))) == expected


@pytest.mark.parametrize("name", [name for name in catalog.names("node") if name != "aws-p5"])
def test_a_group_of_neighbours_is_a_tensor_parallel_group(name):
    node = catalog.node(name)
    unit = max(node.gpus, node.scale_up_group)
    for exponent in range(8):
        size = 2**exponent
        paired = 1 < node.scale_up_group < node.gpus
        across = size % unit == 0 and node.nics and unit > 1 and not paired
        if node.pcie_switches is None and (size <= unit or across):
            assert group_fabric(node, RankGroup(1, size)) == tensor_fabric(node, size, None)


def test_a_device_uses_all_cards_that_it_has_to_itself():
    p5 = catalog.node("aws-p5")  # 32 cards of 100 Gb/s for eight
    assert network_gb_per_s(group_fabric(p5, RankGroup(8, 4))) == pytest.approx(50.0)


def test_servers_with_fewer_cards_than_devices_share_them_among_groups_that_run_at_once():
    frontier = catalog.node("mi250x-4x")  # two devices to a card
    every = group_fabric(frontier, RankGroup(8, 16))
    assert network_gb_per_s(every) == pytest.approx(12.5)
    assert network_gb_per_s(group_fabric(frontier, RankGroup(8, 16), concurrent=4)) == pytest.approx(25.0)
    lone_card = catalog.node("rtx-4090-8x")
    whole = catalog.nic(lone_card.nic).bandwidth_bytes_per_s / 1e9
    for concurrent in (1, 2, 4, 8):
        fabric = group_fabric(lone_card, RankGroup(8, 2), concurrent=concurrent)
        assert network_gb_per_s(fabric) == pytest.approx(whole / concurrent)


def test_rings_that_pass_all_pairs_of_a_server_have_all_its_cards():
    pairs = catalog.node("a100-80gb-pcie-4x")  # four devices, one card of 100 Gb/s
    assert shape(group_fabric(pairs, RankGroup(1, 8))) == [("nvlink3-pairs", 300, 2), ("ethernet-100g", 6.25, 4)]
    assert shape(group_fabric(pairs, RankGroup(4, 8))) == [("ethernet-100g", 12.5 / 4, 8)]


def test_fire_flyers_all_reduce_is_bounded_by_what_its_card_reads_of_devices():
    # published for NCCL: 4.8 GB/s at 16 GPUs and less beyond; 9 GiB/s over 2 (n - 1)/n payloads are 5.2
    fabric = group_fabric(catalog.node("fire-flyer-2"), RankGroup(1, 16))
    payload = 186.0 * 2**20
    assert 4.0e9 < payload / float(fabric.seconds("all_reduce", payload)) < 5.2e9


def test_devices_a_switch_shares_have_what_its_uplink_leaves_them():
    switches = tuple(
        PcieSwitch(name=name, gpus=gpus, nics=(place,), uplink_bytes_per_s=63e9)
        for place, (name, gpus) in enumerate((("a", (0, 1, 2, 3)), ("b", (4, 5, 6, 7))))
    )
    node = catalog.node("h100-pcie-8x").model_copy(update={"pcie_switches": switches, "nics": 2})
    data = group_fabric(node, RankGroup(8, 4))  # data parallel, one device a server: four to a card of 400 Gb/s
    assert network_gb_per_s(data) == pytest.approx(12.5)
    halves = group_fabric(node, RankGroup(4, 2))  # four pairs over both uplinks at once
    assert shape(halves) == [("pcie5-x16", 63 / 4, 2)]
    assert shape(group_fabric(node, RankGroup(4, 2), concurrent=1)) == [("pcie5-x16", 63, 2)]
    assert shape(group_fabric(node, RankGroup(1, 4))) == [("pcie5-x16", 63, 4)]  # each below its own switch


def test_oversubscription_slows_groups_whose_hops_leave_the_leaf_and_not_those_that_stay():
    full, thin = cluster(), cluster(oversubscription=4.0)
    far, near = RankGroup(64, 8), RankGroup(8, 8)
    assert network_gb_per_s(group_fabric(H100, far, cluster=full)) == pytest.approx(50.0)
    assert network_gb_per_s(group_fabric(H100, far, cluster=thin)) == pytest.approx(12.5)
    assert network_gb_per_s(group_fabric(H100, near, cluster=thin)) == pytest.approx(50.0)
    # a ring over two leaves crosses once each way, with one of eight servers' cards
    assert network_gb_per_s(group_fabric(H100, RankGroup(8, 16), cluster=thin)) == pytest.approx(50.0)


def test_all_to_all_leaves_the_leaf_with_all_that_is_not_in_it():
    thin, group = cluster(oversubscription=4.0), RankGroup(8, 64)
    fabric = group_fabric(H100, group, cluster=thin, pattern="all_to_all")
    assert network_gb_per_s(fabric) == pytest.approx(50.0 / 4 / (56 / 63))
    near = group_fabric(H100, RankGroup(8, 8), cluster=thin, pattern="all_to_all")
    assert network_gb_per_s(near) == pytest.approx(50.0)


def test_hashing_slows_the_slowest_group_and_more_flows_a_connection_slow_it_less():
    group = RankGroup(64, 8)
    hashed = cluster(routing="ecmp")
    slowest = network_gb_per_s(group_fabric(H100, group, cluster=hashed))
    many = network_gb_per_s(group_fabric(H100, group, cluster=cluster(routing="ecmp", flows_per_connection=16)))
    assert slowest <= 25.0
    assert slowest < many < 50.0


def test_pods_and_dragonfly_groups_share_what_lies_between_them():
    meta = catalog.cluster("meta-llama3-24k")
    adaptive = meta.model_copy(update={"routing": "adaptive", "nodes": 768})
    beyond = group_fabric(H100, RankGroup(3072, 2), cluster=adaptive)
    assert network_gb_per_s(beyond) == pytest.approx(50.0 / 7)
    frontier = catalog.cluster("frontier").model_copy(update={"nodes": 256})
    crossing = group_fabric(catalog.node("mi250x-4x"), RankGroup(1024, 2), cluster=frontier)
    assert network_gb_per_s(crossing) == pytest.approx(100.0 / 1024)  # 1,024 pairs over one bundle of four links
    spread = group_fabric(catalog.node("mi250x-4x"), RankGroup(8, 256), cluster=frontier, pattern="all_to_all")
    assert network_gb_per_s(spread) == pytest.approx(100.0 / 1024 / (128 / 255))


@given(
    stride=st.sampled_from([1, 2, 4, 8, 16, 64]),
    size=st.sampled_from([1, 2, 4, 8]),
    concurrent=st.one_of(st.none(), st.integers(1, 8)),
    pattern=st.sampled_from(["ring", "all_to_all"]),
    routing=st.sampled_from(["ecmp", "static", "adaptive"]),
    name=st.sampled_from(["dgx-h100", "mi250x-4x", "a100-80gb-pcie-4x", "fire-flyer-2", "gb200-nvl72", "aws-p5"]),
)
def test_every_group_has_a_fabric_that_holds_it_and_no_more_than_its_cards(
    stride, size, concurrent, pattern, routing, name
):
    node = catalog.node(name)
    card = catalog.nic(node.nic)
    where = cluster(node=name, network=card.link, nodes=144, nodes_per_leaf=18, routing=routing, oversubscription=2.0)
    group = RankGroup(stride, size)
    fabric = group_fabric(node, group, cluster=where, concurrent=concurrent, pattern=pattern)
    ranks = fabric.ranks if isinstance(fabric, Fabric) else fabric.inner.ranks * fabric.outer.ranks
    assert size <= ranks < 2 * size
    assert fabric == group_fabric(node, group, cluster=where, concurrent=concurrent, pattern=pattern)
    if Placement.of(node, group).units > 1:
        alone = group_fabric(node, group, concurrent=1)
        assert 0 < network_gb_per_s(fabric) <= network_gb_per_s(alone) * (1 + 1e-9)
        assert network_gb_per_s(alone) <= card.bandwidth_bytes_per_s * max(1, node.nics / node.gpus) / 1e9 * (1 + 1e-9)


def test_a_mesh_gives_devices_apart_the_links_that_they_have():
    frontier = catalog.node("mi250x-4x")
    assert scale_up_link(frontier, frontier.scale_up, 2).bandwidth_bytes_per_s == 200e9
    assert scale_up_link(frontier, frontier.scale_up, 2, stride=4).bandwidth_bytes_per_s == pytest.approx(25e9)


def test_layouts_name_their_groups_as_megatron_does():
    groups = rank_groups(tp=8, cp=2, dp=4, pp=3, ep=8)
    assert groups["tensor"] == RankGroup(1, 8)
    assert groups["context"] == RankGroup(8, 2)
    assert groups["data"] == RankGroup(16, 4)
    assert groups["data_context"] == RankGroup(8, 8)
    assert groups["expert"] == RankGroup(8, 8)
    assert groups["expert_data"] == RankGroup(64, 1)
    assert groups["pipeline"] == RankGroup(64, 3)
    with pytest.raises(ImpossibleError, match="expert parallelism 3 does not divide"):
        rank_groups(tp=1, dp=4, ep=3)


def test_devices_at_one_distance_are_a_group_and_others_are_not():
    assert RankGroup.of([3, 11, 19]) == RankGroup(8, 3)
    assert RankGroup.of([3]) == RankGroup(1, 1)
    with pytest.raises(ImpossibleError, match="a group's ranks lie at one distance"):
        RankGroup.of([0, 1, 3])
    with pytest.raises(ImpossibleError, match="lie at one distance"):
        RankGroup.of([3, 3])
    with pytest.raises(ImpossibleError, match="give at least 1"):
        RankGroup(0, 2)
    with pytest.raises(ImpossibleError, match="concurrent = 0"):
        group_fabric(H100, RankGroup(8, 2), concurrent=0)


def test_a_group_across_servers_without_cards_is_refused():
    bare = H100.model_copy(update={"nics": 0, "name": "bare"})
    with pytest.raises(ImpossibleError, match="bare has no network card"):
        group_fabric(bare, RankGroup(8, 2))


def test_a_users_faster_network_is_read_from_its_file(tmp_path):
    file = write_variation(vary_node("dgx-h100", "mine", [parse_change("network.bandwidth_bytes_per_s=2x")]), tmp_path)
    fabric = group_fabric(catalog.node(str(file)), RankGroup(8, 4))
    # the bus is what is left to hold it up
    assert network_gb_per_s(fabric) == pytest.approx(catalog.link("pcie5-x16").bandwidth_bytes_per_s / 1e9)
