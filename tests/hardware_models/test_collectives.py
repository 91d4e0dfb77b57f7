"""Collectives in closed form, against bounds no algorithm beats, and on every server of the catalog."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.collective_times import NcclParameters
from hardware_models.collectives import Fabric, HierarchicalFabric
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.link_parameters import OUTSIDE, custom_cost, link_efficiencies, nccl_cost
from sim.serving.deployment import tensor_fabric

LINKS = catalog.names("link")
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
MIB = float(1 << 20)

payloads = st.floats(1.0, 1e11)
ranks = st.integers(2, 72)


def seconds(fabric, kind: str, payload: float) -> float:
    return float(fabric.seconds(kind, payload))


# -- closed forms ------------------------------------------------------------------------------------------------------


def nccl(link: str) -> NcclParameters:
    spec = catalog.link(link)
    return nccl_cost(link, spec.kind, host=spec.topology == "host").parameters


def test_a_long_ring_moves_its_share_and_copies_its_own():
    link, p, payload = catalog.link("infiniband-ndr"), nccl("infiniband-ndr"), 1e10
    rate, n = link.bandwidth_bytes_per_s * p.wire_fraction, 8
    fabric = Fabric(link, n)
    assert p.fill_s < 1e-4  # which is all it may add, once buffers are full
    fixed_s = p.simple_launch_s + 7 * (p.simple_hop_s + link.latency_s)
    expected = fixed_s + (7 + 1 / p.own_ratio) / n * payload / rate
    assert expected < seconds(fabric, "reduce_scatter", payload) < expected + p.fill_s
    assert seconds(fabric, "reduce_scatter", payload) == seconds(fabric, "all_gather", payload)
    expected += 7 * (p.simple_hop_s + link.latency_s) + 7 / n * payload / rate
    assert expected < seconds(fabric, "all_reduce", payload) < expected + p.fill_s


def test_a_short_ring_pays_its_steps():
    link, p = catalog.link("nvlink3-switch"), nccl("nvlink3-switch")
    for n, kind, steps in ((2, "all_gather", 1), (8, "all_gather", 7), (8, "all_reduce", 14)):
        fabric = Fabric(link, n, custom_all_reduce=False)
        assert seconds(fabric, kind, 0.0) == pytest.approx(p.launch_s + steps * p.hop_s, rel=1e-12)
    assert Fabric(link, 8).hop_s == p.hop_s


def test_a_small_all_reduce_over_many_ranks_is_a_tree():
    fabric = Fabric(catalog.link("infiniband-ndr"), 64)
    p, link, payload = nccl("infiniband-ndr"), catalog.link("infiniband-ndr"), 1024.0
    wire_s = payload / (link.bandwidth_bytes_per_s * p.ll_fraction)
    tree_s = p.launch_s + 2 * 6 * (p.hop_s + link.latency_s) + 2 * wire_s
    assert seconds(fabric, "all_reduce", payload) == pytest.approx(tree_s, rel=1e-12)


def test_nccl_leaves_the_short_protocol_when_its_own_model_says_so_and_pays_for_it():
    # A100, two ranks: 8.4 + 3.4 - 6.6 - 0.6 us against half the bytes at 87.7 rather than 240 GB/s
    fabric = Fabric(catalog.link("nvlink3-switch"), 2)
    switch = 4.6e-6 / (0.5 / 87.7e9 - 0.5 / 240e9)
    before, after = (seconds(fabric, "all_gather", switch * share) for share in (0.99, 1.01))
    assert after > 1.3 * before
    assert 1 * MIB < switch < 2 * MIB  # measured: 20 us at 1 MiB, 38 us at 2 MiB
    assert seconds(fabric, "all_gather", 2 * MIB) == pytest.approx(38e-6, rel=0.15)


def test_a_small_all_reduce_of_a_serving_engine_is_its_own():
    link = catalog.link("nvlink3-switch")
    p = custom_cost(link.name, link.kind).parameters
    fabric = Fabric(link, 4)
    expected = p.launch_s + 3 * (p.peer_s + 8192 / (link.bandwidth_bytes_per_s * p.one_shot_fraction))
    assert seconds(fabric, "all_reduce", 8192) == pytest.approx(expected, rel=1e-12)
    assert seconds(Fabric(link, 4, custom_all_reduce=False), "all_reduce", 8192) > 2 * expected
    wire_s = 4 * MIB / (link.bandwidth_bytes_per_s * p.two_shot_fraction)
    expected = p.two_shot_launch_s + 3 * p.peer_s + 2 * 3 / 4 * wire_s
    assert seconds(fabric, "all_reduce", 4 * MIB) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("link", "count", "same"),
    [
        ("nvlink3-switch", 8, 8 * MIB),  # vLLM's limit
        ("nvlink4-switch", 8, 64 * MIB),
        ("nvlink4-switch", 4, 32 * MIB),
        ("nvlink3-switch", 16, 1024.0),  # more than a server
        ("pcie4-x16", 4, 1024.0),  # peers unmapped
        ("infiniband-ndr", 2, 1024.0),
    ],
)
def test_a_serving_engine_leaves_the_rest_to_nccl(link, count, same):
    spec = catalog.link(link)
    with_own, without = Fabric(spec, count), Fabric(spec, count, custom_all_reduce=False)
    assert seconds(with_own, "all_reduce", same) == seconds(without, "all_reduce", same)
    assert seconds(with_own, "all_gather", 1024.0) == seconds(without, "all_gather", 1024.0)


def test_a_large_all_reduce_on_nvswitch_of_the_third_generation_is_added_up_in_the_switch():
    link, p, payload = catalog.link("nvlink4-switch"), nccl("nvlink4-switch"), 512 * MIB
    fabric = Fabric(link, 8)
    expected = p.switch_launch_s + 9 / 8 * payload / (link.bandwidth_bytes_per_s * p.switch_fraction)
    assert seconds(fabric, "all_reduce", payload) == pytest.approx(expected, rel=1e-12)
    without = Fabric(link.model_copy(update={"in_switch_reduction": False}), 8)
    assert seconds(without, "all_reduce", payload) > 1.1 * expected
    assert seconds(fabric, "all_gather", payload) == seconds(without, "all_gather", payload)


def test_a_host_without_peer_access_shares_its_paths():
    link = catalog.link("pcie4-x16")
    shared = [Fabric(link, n).bytes_per_s for n in (2, 4, 8)]
    assert shared[0] > 3 * shared[1] > 9 * shared[2]
    direct = [Fabric(link, n, peer_access=True).bytes_per_s for n in (2, 4, 8)]
    assert direct[0] == direct[1] == direct[2] > shared[0]
    assert seconds(Fabric(link, 8), "send_recv", 1e8) == seconds(Fabric(link, 2), "send_recv", 1e8)


# 512 MiB in fp16, published (AI Configurator, NCCL 2.27 and 2.29; Vidur): microseconds
@pytest.mark.parametrize(
    ("link", "count", "kind", "microseconds", "off"),
    [
        ("nvlink3-switch", 2, "all_reduce", 2781, 0.1),
        ("nvlink3-switch", 8, "all_reduce", 4226, 0.1),
        ("nvlink3-switch", 8, "all_to_all", 2313, 0.1),
        ("nvlink4-switch", 4, "all_gather", 1268, 0.1),
        ("nvlink4-switch", 8, "all_reduce", 2111, 0.1),
        ("pcie4-x16", 2, "all_reduce", 26700, 0.1),
        ("pcie4-x16", 4, "all_reduce", 156034, 0.15),
        ("pcie4-x16", 8, "all_reduce", 649471, 0.25),
    ],
)
def test_long_collectives_take_what_was_published(link, count, kind, microseconds, off):
    assert seconds(Fabric(catalog.link(link), count), kind, 512 * MIB) == pytest.approx(microseconds * 1e-6, rel=off)


def test_bridged_pairs_on_one_bus_are_one_ring():
    pairs = HierarchicalFabric(Fabric(catalog.link("nvlink3-pairs"), 2), Fabric(catalog.link("pcie4-x16"), 2))
    assert seconds(pairs, "all_reduce", 512 * MIB) == pytest.approx(33.2e-3, rel=0.05)  # Vidur: 24 GB/s a link
    assert pairs.sigma("all_reduce", 512 * MIB) <= 0.1


def test_servers_on_eight_cards_each_reach_what_was_published():
    # 4 x 8 B200: 381 GB/s of bus bandwidth (ml-engineering, S. Bekman); cards not told, usually 8 x 400 Gb/s
    fabric = HierarchicalFabric(
        Fabric(catalog.link("nvlink5-switch"), 8), Fabric(catalog.link("infiniband-ndr"), 4, custom_all_reduce=False)
    )
    assert 2 * 31 / 32 * 8e9 / seconds(fabric, "all_reduce", 8e9) == pytest.approx(381e9, rel=0.1)


@pytest.mark.parametrize(
    ("servers", "mib", "bus_gb_per_s"),
    [(4, 128, 255), (32, 64, 151), (128, 512, 250), (512, 64, 112), (512, 2048, 308)],
)
def test_all_reduces_of_up_to_4096_devices_take_what_was_published(servers, mib, bus_gb_per_s):
    fabric = HierarchicalFabric(
        Fabric(catalog.link("nvlink4-switch"), 8), Fabric(catalog.link("infiniband-ndr"), servers)
    )
    ranks, payload = 8 * servers, mib * MIB
    bus = 2 * (ranks - 1) / ranks * payload / seconds(fabric, "all_reduce", payload)
    assert bus == pytest.approx(bus_gb_per_s * 1e9, rel=0.27)  # arXiv 2411.13055, read from a plot; fitted


def test_a_ring_through_servers_has_a_step_a_rank():
    link, p = catalog.link("infiniband-hdr"), nccl("infiniband-hdr")
    near = nccl("nvlink3-switch")
    for servers in (2, 16):
        fabric = HierarchicalFabric(Fabric(catalog.link("nvlink3-switch"), 8), Fabric(link, servers))
        fixed_s = near.launch_s + p.launch_s
        steps_s = (8 * servers - servers) * near.hop_s + (servers - 1) * (p.hop_s + link.latency_s)
        assert seconds(fabric, "all_gather", 0.0) == pytest.approx(fixed_s + steps_s, rel=1e-12)


# -- doubt -------------------------------------------------------------------------------------------------------------


def test_doubt_is_small_where_measured_and_large_elsewhere():
    measured, assumed = Fabric(catalog.link("nvlink4-switch"), 8), Fabric(catalog.link("nvlink5-switch"), 8)
    assert (measured.source.grade, assumed.source.grade) == ("measured", "assumed")
    payloads = np.array([1e4, 1e6, 1e8])
    for kind in KINDS:
        assert np.all(measured.sigma(kind, payloads) < assumed.sigma(kind, payloads))
    wide = Fabric(catalog.link("nvlink4-switch"), 16)  # more ranks than were measured
    assert wide.sigma("all_gather", 1e8) == OUTSIDE * measured.sigma("all_gather", 1e8)
    assert measured.sigma("all_gather", 1e11) == OUTSIDE * measured.sigma("all_gather", 5e8)
    assert measured.sigma("send_recv", 1e8) > measured.sigma("all_to_all", 1e8)


def test_a_hierarchy_is_as_sure_as_its_less_sure_level():
    inner, outer = Fabric(catalog.link("nvlink4-switch"), 8), Fabric(catalog.link("infiniband-ndr"), 4)
    both = HierarchicalFabric(inner, outer)
    assert both.source.grade == "assumed"
    assert both.sigma("all_reduce", 1e9) == outer.sigma("all_reduce", 1e9 / 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"wire_fraction": 1.2}, "wire_fraction = 1.2 must be in"), ({"hop_s": 0.0}, "positive"), ({"hops": 1.0}, "hops")],
)
def test_impossible_parameters_say_so(change, words):
    table = link_efficiencies()["nvlink"].nccl
    with pytest.raises(FleetcastError, match=words):
        NcclParameters.of(table | change, "links.toml nvlink")


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
    ranks = inner * outer
    rail = slow.link.bandwidth_bytes_per_s * inner  # one card a device
    for kind in ("all_gather", "reduce_scatter"):
        longest = max(seconds(fast, kind, payload), seconds(slow, kind, payload / inner))
        assert seconds(both, kind, payload) >= longest
        assert seconds(both, kind, payload) >= (ranks - 1) / ranks * payload / rail
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
