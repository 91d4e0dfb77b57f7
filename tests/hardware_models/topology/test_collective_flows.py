"""Collectives' flows take on idle links what the closed forms say, and contend where they share."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.collective_times import NcclParameters, _tree
from hardware_models.errors import ImpossibleError, UnknownNameError
from hardware_models.specs import ClusterSpec
from hardware_models.topology.collective_flows import (
    Load,
    all_to_all,
    all_to_all_by_rail,
    by_server,
    double_tree,
    double_tree_parents,
    drain_seconds,
    hierarchical_all_reduce,
    idle_seconds,
    in_switch,
    ring,
    together,
)
from hardware_models.topology.sharing import contended_groups, sharing_factor
from hardware_models.topology.topology import Topology

RAILS = Topology.of("dgx-h100-superpod")
NVLINK, NDR = catalog.link("nvlink4-switch"), catalog.link("infiniband-ndr")
payloads = st.floats(1.0, 1e11)


def exactly(value: float):
    return pytest.approx(value, rel=1e-9)


@given(ranks=st.integers(2, 8), payload=payloads)
def test_a_ring_in_a_server_takes_its_closed_form(ranks, payload):
    for kind, rounds in (("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)):
        steps = rounds * (ranks - 1)
        wire_s = steps / ranks * payload / NVLINK.bandwidth_bytes_per_s
        phase = ring(RAILS, range(ranks), kind, payload)
        assert idle_seconds(RAILS, [phase]) == exactly(steps * NVLINK.latency_s + wire_s)


@given(ranks=st.integers(2, 32), place=st.integers(0, 7), payload=payloads)
def test_a_ring_over_one_rail_takes_its_closed_form(ranks, place, payload):
    devices = [8 * node + place for node in range(ranks)]
    seconds = idle_seconds(RAILS, [ring(RAILS, devices, "all_reduce", payload)])
    wire_s = 2 * (ranks - 1) / ranks * payload / NDR.bandwidth_bytes_per_s
    assert seconds == exactly(2 * (ranks - 1) * NDR.latency_s + wire_s)


@given(ranks=st.integers(1, 200))
def test_both_trees_span_all_ranks_and_at_most_one_has_children_in_both(ranks):
    first, second = double_tree_parents(ranks)
    parents = [set(tree) - {-1} for tree in (first, second)]
    assert parents[0] & parents[1] <= ({0} if ranks % 2 else set())
    for tree in (first, second):
        assert tree.count(-1) == 1
        assert max((tree.count(parent) for parent in range(ranks)), default=0) <= 2
        for rank in range(ranks):
            depth, at = 0, rank
            while tree[at] >= 0:
                at, depth = tree[at], depth + 1
            assert depth <= ceil(log2(ranks)) if ranks > 1 else depth == 0


@given(exponent=st.integers(2, 5), payload=payloads)
def test_double_trees_take_two_payloads_and_twice_their_depth(exponent, payload):
    devices = [8 * node for node in range(2**exponent)]
    seconds = idle_seconds(RAILS, [double_tree(RAILS, devices, payload)])
    assert seconds == exactly(2 * exponent * NDR.latency_s + 2 * payload / NDR.bandwidth_bytes_per_s)


def test_trees_agree_with_the_priced_model_where_its_links_are_ideal():
    tiny = 1e-30
    ideal = NcclParameters(
        launch_s=tiny, hop_s=tiny, spread=tiny, spread_bytes=1.0, ll_fraction=tiny, ll_own_ratio=1.0,
        simple_launch_s=tiny, simple_hop_s=tiny, wire_fraction=1.0, own_ratio=1.0, p2p_launch_s=tiny, peer_s=tiny,
        channel_fraction=1.0, ramp_s=tiny, p2p_own_ratio=1.0, fill_ratio=1.0, fill_s=tiny,
    )  # fmt: skip
    for ranks in (4, 8, 16, 32):
        priced = float(_tree(1e9, float(ranks), NDR, ideal).seconds)
        flows = idle_seconds(RAILS, [double_tree(RAILS, [8 * node for node in range(ranks)], 1e9)])
        assert flows == pytest.approx(priced, rel=1e-6)


@given(ranks=st.integers(2, 8), payload=payloads)
def test_a_switch_that_reduces_takes_each_byte_once_and_a_share(ranks, payload):
    seconds = idle_seconds(RAILS, [in_switch(RAILS, range(ranks), payload)])
    assert seconds == exactly(NVLINK.latency_s + (1 + 1 / ranks) * payload / NVLINK.bandwidth_bytes_per_s)


def test_a_reduction_in_the_switch_needs_such_a_switch():
    with pytest.raises(ImpossibleError, match="dgx-h100: no switch that reduces joins devices"):
        in_switch(RAILS, [0, 8], 1.0)
    a100 = Topology.of("dgx-a100-4n")
    with pytest.raises(ImpossibleError, match="no switch that reduces"):
        in_switch(a100, [0, 1], 1.0)


@given(ranks=st.integers(2, 8), payload=payloads)
def test_all_to_all_in_a_server_takes_its_closed_form(ranks, payload):
    seconds = idle_seconds(RAILS, [all_to_all(RAILS, range(ranks), payload)])
    assert seconds == exactly(NVLINK.latency_s + (ranks - 1) / ranks * payload / NVLINK.bandwidth_bytes_per_s)


@given(nodes=st.integers(2, 6), payload=payloads)
def test_all_to_all_by_rail_sends_the_same_bytes_over_cards_but_never_leaves_its_rail(nodes, payload):
    inside, across = all_to_all_by_rail(RAILS, range(8 * nodes), payload)
    wire_s = (nodes - 1) / nodes * payload / NDR.bandwidth_bytes_per_s
    assert drain_seconds(across.loads, RAILS) == exactly(wire_s)
    assert drain_seconds(inside.loads, RAILS) == exactly(7 / 8 * payload / NVLINK.bandwidth_bytes_per_s)
    assert all(len(load.links) == 4 for load in across.loads)  # bus, card, card, bus: one switch


@given(nodes=st.integers(2, 8), payload=payloads)
def test_a_hierarchy_takes_each_levels_closed_form_one_after_another(nodes, payload):
    phases = hierarchical_all_reduce(RAILS, range(8 * nodes), payload)
    inside_s = 7 * NVLINK.latency_s + 7 / 8 * payload / NVLINK.bandwidth_bytes_per_s
    across_s = 2 * (nodes - 1) * NDR.latency_s
    across_s += 2 * (nodes - 1) / nodes * payload / 8 / NDR.bandwidth_bytes_per_s
    assert idle_seconds(RAILS, phases) == exactly(2 * inside_s + across_s)
    overlapped = idle_seconds(RAILS, [together(phases)])
    assert overlapped <= idle_seconds(RAILS, phases) * (1 + 1e-9)


def test_lone_devices_and_misspelt_kinds():
    assert idle_seconds(RAILS, [ring(RAILS, [3], "all_reduce", 1e9), double_tree(RAILS, [3], 1e9)]) == 0.0
    assert all_to_all(RAILS, [3], 1e9).loads == ()
    with pytest.raises(UnknownNameError, match="did you mean 'all_reduce'"):
        ring(RAILS, [0, 1], "all_reduc", 1.0)


def test_rails_need_as_many_devices_in_every_server():
    assert by_server(RAILS, [0, 1, 8, 16]) == [[0, 1], [8], [16]]
    with pytest.raises(ImpossibleError, match=r"\[1, 2\] devices in its servers"):
        hierarchical_all_reduce(RAILS, [0, 1, 8], 1.0)


def test_what_short_flows_leave_goes_to_the_long_ones():
    up, down = RAILS.path(0, 1)
    loads = [Load((up,), 450e9), Load((up, down), 900e9)]
    assert drain_seconds(loads, RAILS) == exactly(3.0)  # half each for two seconds, then all for one


def test_two_rings_over_one_card_get_half_of_it_each():
    topology = Topology.of("dgx-2-32n")  # two devices to a card
    rings = [[0, 16, 32], [1, 17, 33]]
    assert contended_groups(topology, rings) == [6.25e9] * 2
    assert contended_groups(topology, rings[:1]) == [12.5e9]
    assert sharing_factor(topology, rings) == exactly(0.5)
    assert sharing_factor(topology, [[0, 16], [2, 18]]) == 1.0
    both = together(ring(topology, group, "all_reduce", 1e9) for group in rings)
    assert drain_seconds(both.loads, topology) == exactly(4 / 3 * 1e9 / 6.25e9)


def test_a_ring_held_up_elsewhere_leaves_its_card_to_others():
    topology = Topology(
        catalog.node("dgx-2"),
        ClusterSpec(
            name="thin",
            node="dgx-2",
            nodes=4,
            network="infiniband-edr",
            nodes_per_leaf=2,
            oversubscription=32.0,
            routing="adaptive",
        ),
    )
    far, near = contended_groups(topology, [[0, 32], [1, 17]])  # one crosses leaves through 1/32 of 16 cards
    assert far == exactly(16 * 12.5e9 / 32)
    assert near == exactly(12.5e9 - far)


def test_groups_with_several_devices_in_each_server_use_all_their_cards():
    assert contended_groups(RAILS, [range(64)]) == [50e9]
    assert contended_groups(RAILS, [range(0, 64, 2), range(1, 64, 2)]) == [50e9, 50e9]
    assert contended_groups(RAILS, [[5]]) == [float("inf")]
    uneven = [0, 1, 2, 8]
    assert contended_groups(RAILS, [uneven]) == [50e9]
