"""Collectives in closed form, against bounds no algorithm beats, and on every server of the catalog."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.collectives import Fabric, HierarchicalFabric
from hardware_models.efficiency import link_efficiencies
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.serving.deployment import tensor_fabric

LINKS = catalog.names("link")
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
MIB = float(1 << 20)

payloads = st.floats(1.0, 1e11)
ranks = st.integers(2, 72)


def seconds(fabric, kind: str, payload: float) -> float:
    return float(fabric.seconds(kind, payload))


# -- closed forms ------------------------------------------------------------------------------------------------------


def test_a_large_all_reduce_is_a_ring():
    fabric = Fabric(catalog.link("pcie4-x16"), 8)
    table, link = link_efficiencies()["pcie"], catalog.link("pcie4-x16")
    payload = 1e9
    hop_s = table.hop_s + link.latency_s
    wire_s = payload / (link.bandwidth_bytes_per_s * table.bandwidth_fraction)
    ring_s = table.launch_s + 14 * hop_s + 14 / 8 * wire_s
    assert seconds(fabric, "all_reduce", payload) == pytest.approx(ring_s, rel=1e-12)
    half_s = table.launch_s + 7 * hop_s + 7 / 8 * wire_s
    assert seconds(fabric, "reduce_scatter", payload) == pytest.approx(half_s, rel=1e-12)
    assert seconds(fabric, "all_gather", payload) == pytest.approx(half_s, rel=1e-12)


def test_a_small_all_reduce_over_many_ranks_is_a_tree():
    fabric = Fabric(catalog.link("infiniband-ndr"), 64)
    table, link = link_efficiencies()["infiniband"], catalog.link("infiniband-ndr")
    payload = 1024.0
    wire_s = payload / (link.bandwidth_bytes_per_s * table.bandwidth_fraction)
    tree_s = table.launch_s + 2 * 6 * (table.hop_s + link.latency_s) + 2 * wire_s
    assert seconds(fabric, "all_reduce", payload) == pytest.approx(tree_s, rel=1e-12)


def test_two_ranks_exchange_half_each_way():
    fabric = Fabric(catalog.link("pcie4-x16"), 2)
    table = link_efficiencies()["pcie"]
    wire_s = 1e8 / fabric.bytes_per_s
    assert seconds(fabric, "all_reduce", 1e8) == pytest.approx(table.launch_s + 2 * fabric.hop_s + wire_s, rel=1e-12)
    for kind in ("all_gather", "reduce_scatter", "all_to_all"):
        expected = table.launch_s + fabric.hop_s + wire_s / 2
        assert seconds(fabric, kind, 1e8) == pytest.approx(expected, rel=1e-12)
    expected = table.launch_s + fabric.hop_s + wire_s
    assert seconds(fabric, "send_recv", 1e8) == pytest.approx(expected, rel=1e-12)


def test_two_ranks_on_nvlink_read_each_other_in_one_shot():
    fabric = Fabric(catalog.link("nvlink3-switch"), 2)
    table = link_efficiencies()["nvlink"]
    expected = table.direct_launch_s + fabric.hop_s + 8192 / fabric.bytes_per_s
    assert seconds(fabric, "all_reduce", 8192) == pytest.approx(expected, rel=1e-12)


def test_a_large_all_reduce_on_nvswitch_of_the_third_generation_is_added_up_in_the_switch():
    link, table = catalog.link("nvlink4-switch"), link_efficiencies()["nvlink"]
    fabric, payload = Fabric(link, 8), 512 * MIB
    expected = table.launch_s + 4 * fabric.hop_s + payload / (link.bandwidth_bytes_per_s * table.in_switch_fraction)
    assert seconds(fabric, "all_reduce", payload) == pytest.approx(expected, rel=1e-12)
    without = Fabric(link.model_copy(update={"in_switch_reduction": False}), 8)
    assert seconds(without, "all_reduce", payload) > 1.2 * expected
    assert seconds(fabric, "all_gather", payload) == seconds(without, "all_gather", payload)


def test_all_to_all_takes_one_hop_on_a_switch_and_a_ring_of_hops_on_a_bus():
    switch, bus = Fabric(catalog.link("nvlink3-switch"), 8), Fabric(catalog.link("pcie4-x16"), 8)
    for fabric, hops in ((switch, 1), (bus, 7)):
        launch_s = link_efficiencies()[fabric.link.kind].launch_s
        expected = launch_s + hops * fabric.hop_s + 7 / 8 * 1e8 / fabric.bytes_per_s
        assert seconds(fabric, "all_to_all", 1e8) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("link", LINKS)
def test_one_rank_has_nobody_to_talk_to(link):
    fabric = Fabric(catalog.link(link), 1)
    for kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"):
        assert fabric.seconds(kind, np.array([0.0, 1e3, 1e9])).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_an_unknown_kind_is_an_error_and_not_a_free_lunch(count):
    fabric = Fabric(catalog.link("pcie4-x16"), count)
    with pytest.raises(UnknownNameError, match="unknown name 'broadcast'"):
        fabric.seconds("broadcast", 1.0)
    with pytest.raises(UnknownNameError, match="unknown name 'broadcast'"):
        HierarchicalFabric(Fabric(catalog.link("nvlink3-switch"), 8), fabric).seconds("broadcast", 1.0)


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
@given(count=ranks, payload=payloads)
def test_no_collective_beats_the_bytes_each_rank_must_send(link, count, payload):
    fabric = Fabric(catalog.link(link), count)
    wire_s = payload / fabric.link.bandwidth_bytes_per_s
    share_s = (count - 1) / count * wire_s
    in_switch = fabric.link.in_switch_reduction and count > 2
    assert seconds(fabric, "all_reduce", payload) >= (wire_s if in_switch else 2 * share_s)
    for kind in ("all_gather", "reduce_scatter", "all_to_all"):
        assert seconds(fabric, kind, payload) >= share_s
    assert seconds(fabric, "send_recv", payload) >= wire_s
    assert all(seconds(fabric, kind, payload) > fabric.link.latency_s for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
@given(link=st.sampled_from(LINKS), count=ranks, payload=payloads, more=st.floats(0.0, 1e10))
def test_more_bytes_never_arrive_sooner(kind, link, count, payload, more):
    flat = Fabric(catalog.link(link), count)
    deep = HierarchicalFabric(Fabric(catalog.link("nvlink4-switch"), 8), flat)
    for fabric in (flat, deep):
        assert seconds(fabric, kind, payload + more) >= seconds(fabric, kind, payload)


@pytest.mark.parametrize("kind", KINDS)
@given(payload=payloads)
def test_an_array_of_payloads_is_priced_as_one_by_one(kind, payload):
    fabric = tensor_fabric(catalog.node("dgx-h100"), 16, None)
    many = np.array([payload, payload / 3, 1.0])
    assert fabric.seconds(kind, many).tolist() == [seconds(fabric, kind, p) for p in many.tolist()]


@given(inner=st.integers(2, 8), outer=st.integers(2, 32), payload=payloads)
def test_a_hierarchy_takes_no_less_than_either_level(inner, outer, payload):
    fast, slow = Fabric(catalog.link("nvlink3-switch"), inner), Fabric(catalog.link("infiniband-hdr"), outer)
    both = HierarchicalFabric(fast, slow)
    for kind in ("all_gather", "reduce_scatter"):
        parts = seconds(fast, kind, payload), seconds(slow, kind, payload / inner)
        assert seconds(both, kind, payload) == pytest.approx(sum(parts), rel=1e-12)
    reduced = seconds(both, "all_reduce", payload)
    assert reduced >= seconds(slow, "all_reduce", payload / inner)
    assert reduced >= seconds(fast, "reduce_scatter", payload) + seconds(fast, "all_gather", payload)
    across = (outer - 1) / outer * payload / slow.link.bandwidth_bytes_per_s  # what leaves the group, all to all
    assert seconds(both, "all_to_all", payload) >= across
    assert seconds(both, "send_recv", payload) == seconds(slow, "send_recv", payload)


def test_a_hierarchy_of_one_group_is_that_group_and_of_lone_devices_is_the_outer_ring():
    link = catalog.link("infiniband-ndr")
    ring = Fabric(link, 8)
    lone = HierarchicalFabric(Fabric(catalog.link("nvlink4-switch"), 1), ring)
    for kind in KINDS:
        assert seconds(lone, kind, 1e7) == seconds(ring, kind, 1e7)


# -- servers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalog.names("node"))
def test_every_server_joins_every_group_it_can_hold(name):
    node = catalog.node(name)
    assert seconds(tensor_fabric(node, 1, None), "all_reduce", 1e6) == 0.0
    group = node.scale_up_group if node.scale_up else 1
    for count in range(2, max(node.gpus, group) + 1):
        fabric = tensor_fabric(node, count, None)
        flat = isinstance(fabric, Fabric)
        joined = fabric.ranks if flat else fabric.inner.ranks * fabric.outer.ranks
        assert count <= joined < count + (1 if flat else fabric.inner.ranks)
        for kind in KINDS:
            assert 1e-6 < seconds(fabric, kind, 1e6) < 1.0
        if 1 < group < count:
            inside = tensor_fabric(node, group, None)
            assert seconds(fabric, "all_reduce", 1e8) > seconds(inside, "all_reduce", 1e8)
        link = catalog.link(node.scale_up if count <= group and node.scale_up else node.pcie)
        assert (fabric if flat else fabric.outer).link.kind == link.kind


@pytest.mark.parametrize("name", [name for name in catalog.names("node") if catalog.node(name).nics])
def test_a_group_across_servers_is_as_slow_as_a_gpus_share_of_the_cards(name):
    node = catalog.node(name)
    card = catalog.nic(node.nic)
    group = max(node.gpus, node.scale_up_group if node.scale_up else 1)
    fabric = tensor_fabric(node, 2 * group, None)
    assert isinstance(fabric, HierarchicalFabric)
    assert fabric.outer.link.kind == catalog.link(card.link).kind
    share = min(card.bandwidth_bytes_per_s * node.nics / node.gpus, card.bandwidth_bytes_per_s)
    assert fabric.outer.link.bandwidth_bytes_per_s <= share * (1 + 1e-12)
    payload = 1e9
    crossing = 2 * (fabric.outer.ranks - 1) / fabric.outer.ranks * payload / fabric.inner.ranks / share
    assert seconds(fabric, "all_reduce", payload) > crossing


def test_a_group_across_racks_keeps_the_whole_rack_on_its_switch():
    fabric = tensor_fabric(catalog.node("gb200-nvl72"), 144, None)
    assert (fabric.inner.ranks, fabric.outer.ranks) == (72, 2)
    assert fabric.inner.link.name == "nvlink5-switch"


def test_a_server_without_cards_says_so():
    node = catalog.node("dgx-h100").model_copy(update={"nics": 0})
    with pytest.raises(FleetcastError, match="dgx-h100 has no network card; keep a replica inside one node"):
        tensor_fabric(node, 16, None)


def test_part_of_a_mesh_has_only_the_links_between_its_own_members():
    # MI300X: 64 GB/s to each of seven peers, so two of the eight share one link and four share three
    node = catalog.node("mi300x-8x")
    assert [tensor_fabric(node, n, None).link.bandwidth_bytes_per_s for n in (2, 4, 8)] == [64e9, 192e9, 448e9]
    # MI250X: 200 GB/s between the two dies of a package; V100: two of six links between the closest pair
    assert tensor_fabric(catalog.node("mi250x-4x"), 2, None).link.bandwidth_bytes_per_s == 200e9
    assert tensor_fabric(catalog.node("dgx-v100"), 2, None).link.bandwidth_bytes_per_s == 50e9
    assert tensor_fabric(catalog.node("polaris"), 2, None).link.bandwidth_bytes_per_s == 100e9
    # a switch gives any two devices all of their links
    assert tensor_fabric(catalog.node("dgx-a100-80gb"), 2, None).link.bandwidth_bytes_per_s == 300e9
