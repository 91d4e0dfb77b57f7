"""Paths between devices: which links, how many, and who shares them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import FleetcastError, ImpossibleError
from hardware_models.specs import ClusterSpec, PcieSwitch
from hardware_models.topology.max_min import max_min_rates
from hardware_models.topology.sharing import least_loaded_paths
from hardware_models.topology.topology import Topology

CLUSTERS = catalog.names("cluster")


def cluster(**changes) -> ClusterSpec:
    table = {
        "name": "test", "node": "dgx-h100", "nodes": 64, "network": "infiniband-ndr", "nodes_per_leaf": 8,
        "oversubscription": 1.0,
    }  # fmt: skip
    return ClusterSpec.model_validate(table | changes)


def built(node="dgx-h100", **changes) -> Topology:
    return Topology(catalog.node(node), cluster(node=node, **changes))


def names(topology, path):
    return [topology.links.block(link).name for link in path]


def network(topology, path):
    """Links of the path outside servers."""
    return [name for name in names(topology, path) if name.split()[0] in {"card", "leaf", "spine", "local", "global"}]


@pytest.mark.parametrize("name", CLUSTERS)
@given(data=st.data())
def test_paths_of_every_cluster_start_at_the_source_and_end_at_the_target(name, data):
    topology = Topology.of(name)
    device = st.integers(0, topology.devices - 1)
    source, target, label = data.draw(device), data.draw(device), data.draw(st.integers(0, 1000))
    path = topology.path(source, target, label)
    assert path == topology.path(source, target, label)
    assert len(set(path)) == len(path)
    assert all(topology.links[link] > 0 for link in path)
    assert bool(path) == (source != target)
    assert (topology.latency_s(path) > 0) == bool(path)
    back = topology.path(target, source, label)
    assert not set(path) & set(back)  # directions do not share
    other = data.draw(device)
    if path and other not in (source, target):  # nobody else sends on a device's own first link
        assert topology.path(other, target)[:1] != path[:1] or topology.joined_inside(source, other)


def test_devices_of_a_switch_have_their_whole_link_each_way():
    topology = built()
    assert [topology.links.name(link) for link in topology.path(3, 5)] == [
        "nvlink4-switch up 3",
        "nvlink4-switch down 5",
    ]
    assert topology.latency_s(topology.path(3, 5)) == catalog.link("nvlink4-switch").latency_s


def test_a_scale_up_link_may_join_several_servers():
    topology = Topology.of("gb200-nvl72-rack")
    assert names(topology, topology.path(0, 71)) == ["nvlink5-switch up", "nvlink5-switch down"]


def test_devices_of_a_pair_have_their_bridge_and_others_the_bus():
    topology = built("a100-80gb-pcie-4x")
    assert names(topology, topology.path(2, 3)) == ["nvlink3-pairs near"]
    assert names(topology, topology.path(1, 2)) == ["pcie4-x16 up", "pcie4-x16 down"]


@pytest.mark.parametrize("node", ["mi300x-8x", "mi250x-4x", "polaris", "dgx-v100"])
def test_a_meshs_links_add_up_to_a_devices_total(node):
    topology, spec = built(node), catalog.link(catalog.node(node).scale_up)
    group = catalog.node(node).scale_up_group
    links = [topology.path(source, target) for source in range(group) for target in range(group) if source != target]
    assert len(set(links)) == group * (group - 1)  # each pair and direction its own
    assert sum(topology.links[link] for (link,) in links[: group - 1]) == pytest.approx(spec.bandwidth_bytes_per_s)


def test_the_same_card_of_every_server_is_one_hop_away_on_rails():
    rails = built(rail_optimised=True)
    assert network(rails, rails.path(3, 8 * 7 + 3)) == ["card up", "card down"]
    assert network(rails, rails.path(3, 8 * 7 + 4)) == ["card up", "leaf up", "leaf down", "card down"]
    assert network(rails, rails.path(3, 8 * 8 + 3)) == ["card up", "leaf up", "leaf down", "card down"]
    plain = built()
    assert network(plain, plain.path(3, 8 * 7 + 4)) == ["card up", "card down"]


def test_a_hop_more_takes_a_switch_more():
    topology = built("dgx-h100")
    link, card = catalog.link("infiniband-ndr"), catalog.nic("connectx-7")
    near, far = topology.path(0, 8), topology.path(0, 8 * 8)
    assert topology.latency_s(near) == pytest.approx(link.latency_s)
    assert topology.latency_s(far) == pytest.approx(link.latency_s + 2 * (link.latency_s - card.latency_s))


def test_two_flows_hashed_onto_one_uplink_get_half_each():
    topology = built()
    first = topology.path(0, 8 * 8)
    pairs = [(source, 8 * 8 + source) for source in range(1, 64)]
    colliding = next(path for path in (topology.path(*pair) for pair in pairs) if path[2] == first[2])
    assert max_min_rates([first, colliding], topology.links) == [25e9, 25e9]
    assert len({topology.path(0, 8 * 8, label)[2] for label in range(500)}) == 64  # in time, every uplink is chosen


def test_hashes_leave_as_many_uplinks_idle_as_chance_does():
    topology = built()
    taken = {topology.path(source, 64 + source)[2] for source in range(64)}
    assert 32 < len(taken) < 50  # 64 (1 - 1/e) = 40


def test_adaptive_and_static_routing_give_a_shift_its_full_bandwidth():
    for routing, full in (("adaptive", True), ("static", True), ("ecmp", False)):
        topology = built(routing=routing)
        rates = max_min_rates([topology.path(d, (d + 64) % 512) for d in range(512)], topology.links)
        assert (min(rates) == pytest.approx(50e9)) == full


def test_placing_flows_on_the_least_loaded_path_beats_the_hash():
    topology = built()
    pairs = [(source, 64 + source) for source in range(64)]
    placed = max_min_rates(least_loaded_paths(topology, pairs, choices=64), topology.links)
    hashed = max_min_rates([topology.path(*pair) for pair in pairs], topology.links)
    assert min(placed) > min(hashed)
    assert sum(placed) > 1.2 * sum(hashed)


@pytest.mark.parametrize("oversubscription", [1.0, 2.0, 3.0, 7.0])
def test_oversubscription_divides_what_leaves_a_leaf(oversubscription):
    topology = built(routing="adaptive", oversubscription=oversubscription)
    leaving = [topology.path(device, device + 64) for device in range(64)]
    assert max_min_rates(leaving, topology.links) == pytest.approx([50e9 / oversubscription] * 64)
    staying = [topology.path(device, (device + 8) % 64) for device in range(64)]
    assert max_min_rates(staying, topology.links) == [50e9] * 64


def test_pods_divide_once_more_what_leaves_them():
    topology = built(routing="adaptive", nodes_per_pod=16, pod_oversubscription=7.0)
    assert network(topology, topology.path(0, 8 * 16)) == [
        "card up", "leaf up", "spine up", "spine down", "leaf down", "card down",
    ]  # fmt: skip
    leaving = [topology.path(device, device + 128) for device in range(128)]
    assert max_min_rates(leaving, topology.links) == pytest.approx([50e9 / 7] * 128)
    inside = [topology.path(device, (device + 64) % 128) for device in range(128)]
    assert max_min_rates(inside, topology.links) == pytest.approx([50e9] * 128)


def test_uplinks_have_their_switchs_bandwidth_whatever_their_number_is_rounded_to():
    topology = built(oversubscription=7.0)  # 64 ports down, 9.14 up
    up = next(block for block in topology.links.blocks if block.name == "leaf up")
    assert up.count == 8 * 10
    assert 10 * up.bytes_per_s == pytest.approx(64 * 50e9 / 7)


def test_planes_meet_in_servers_alone():
    topology = built(planes=8, rail_optimised=True, routing="adaptive")
    path = topology.path(0, 8 * 9 + 5)
    assert names(topology, path)[:2] == ["nvlink4-switch up", "nvlink4-switch down"]
    assert network(topology, path) == ["card up", "leaf up", "leaf down", "card down"]
    assert topology.links.name(path[3]) == "card up 5"  # the neighbour's card on the target's plane
    same = topology.path(0, 8 * 9)
    assert "nvlink4-switch up" not in names(topology, same)


def test_planes_share_no_switch():
    topology = built(planes=8, rail_optimised=True, nodes_per_pod=16)
    seen = []
    for card in range(8):
        paths = [topology.path(8 * a + card, 8 * b + card) for a in range(0, 64, 5) for b in range(64) if a != b]
        seen.append({link for path in paths for link in path})
    for place, links in enumerate(seen):
        assert not any(links & other for other in seen[:place])


def test_minimal_paths_of_a_dragonfly_have_at_most_one_link_between_and_two_within_groups():
    topology = built(
        "mi250x-4x", network="slingshot-11", fabric="dragonfly", nodes_per_leaf=4, nodes_per_pod=16,
        rail_optimised=True, links_per_group_pair=2,
    )  # fmt: skip
    found = {}
    for target in range(8, topology.devices, 3):
        path = network(topology, topology.path(0, target))[1:-1]
        node = target // 8
        where = "switch" if node < 4 and target % 8 < 2 else "group" if node < 16 else "beyond"
        found.setdefault(where, set()).add(tuple(path))
    assert found["switch"] == {()}
    assert found["group"] == {("local",)}
    between = found["beyond"]
    assert all(path.count("global") == 1 and path.count("local") <= 2 for path in between)
    assert ("local", "global", "local") in between
    assert ("global",) in between or ("local", "global") in between


def test_every_global_link_of_a_dragonfly_hangs_on_both_groups_alike():
    topology = built(
        "mi250x-4x", network="slingshot-11", fabric="dragonfly", nodes_per_leaf=4, nodes_per_pod=16, rail_optimised=True
    )
    for a in range(0, 512, 17):
        for b in range(0, 512, 13):
            there = [link for link in topology.path(a, b) if topology.links.block(link).name == "global"]
            assert len(there) == (a // 128 != b // 128)


def test_frontiers_groups_have_57_per_cent_of_their_cards_bandwidth_between_them():
    topology = Topology.of("frontier")
    blocks = {block.name: block for block in topology.links.blocks}
    assert blocks["card up"].count == 37_632
    pair = blocks["global"].bytes_per_s
    assert pair * 74 * 73 / 2 == pytest.approx(270e12, rel=0.001)  # as published
    assert 73 * pair / (512 * 25e9) == pytest.approx(0.57, abs=0.005)


def switched(**switches) -> Topology:
    """Eight devices and two cards: four of each half under one PCIe switch, unless told otherwise."""
    halves = [
        PcieSwitch(name="a", gpus=(0, 1, 2, 3), nics=(0,), uplink_bytes_per_s=31.5e9),
        PcieSwitch(name="b", gpus=(4, 5, 6, 7), nics=(1,), uplink_bytes_per_s=31.5e9),
    ]
    update = {"pcie_switches": tuple(halves), "nics": 2} | switches
    node = catalog.node("h100-pcie-8x").model_copy(update=update)
    return Topology(node, cluster(node=node.name))


def test_siblings_of_a_pcie_switch_share_its_uplink_and_nothing_else():
    topology = switched()
    across = [topology.path(device, device + 4) for device in range(4)]
    assert max_min_rates(across, topology.links) == [31.5e9 / 4] * 4
    below = [topology.path(0, 1), topology.path(2, 3)]
    assert max_min_rates(below, topology.links) == [63e9] * 2
    assert names(topology, topology.path(0, 1)) == ["pcie5-x16 up", "pcie5-x16 down"]
    copies = [topology.to_host(device) for device in range(4)]
    assert max_min_rates(copies, topology.links) == [31.5e9 / 4] * 4
    both = [topology.to_host(0), topology.from_host(1)]
    assert max_min_rates(both, topology.links) == [31.5e9] * 2  # directions apart


def test_devices_send_through_the_card_under_their_own_switch():
    topology = switched()
    assert [topology.cards(device) for device in range(8)] == [(0,)] * 4 + [(1,)] * 4
    assert "h100-pcie-8x a up" not in names(topology, topology.path(0, 8))
    swapped = switched(
        pcie_switches=(
            PcieSwitch(name="root", uplink_bytes_per_s=20e9),
            PcieSwitch(name="a", gpus=(0, 1), nics=(1,), uplink_bytes_per_s=30e9, under="root"),
            PcieSwitch(name="b", gpus=(2, 3), uplink_bytes_per_s=30e9, under="root"),
        )
    )
    assert [swapped.cards(device) for device in range(4)] == [(1,)] * 4  # b's nearest card is under the same root
    assert [name.split()[-2:] for name in names(swapped, swapped.path(2, 0))][1:3] == [["b", "up"], ["a", "down"]]
    assert [name.split()[-2] for name in names(swapped, swapped.path(2, 5))] == ["pcie5-x16", "b", "root", "pcie5-x16"]


def test_devices_that_outnumber_cards_share_them_and_cards_that_outnumber_devices_are_shared_out():
    assert [built("dgx-2").cards(device) for device in range(4)] == [(0,), (0,), (1,), (1,)]
    p5 = built("aws-p5", network="efa-100g")
    assert p5.cards(1) == (4, 5, 6, 7)
    paths = {p5.path(1, 9, label) for label in range(4)}
    assert len(paths) == 4
    load = p5.load(1, 9)
    assert set(load) == {link for path in paths for link in path}
    assert sorted(set(load.values())) == [0.25, 1.0]  # a card's part, and the bus's whole


def test_more_flows_a_connection_spread_over_more_uplinks_with_the_same_bytes():
    one, many = built(), built(flows_per_connection=16)
    assert set(one.load(0, 64)) == set(one.path(0, 64))
    for topology in (one, many):
        load = topology.load(0, 64)
        by_name = {}
        for link, part in load.items():
            name = topology.links.block(link).name
            by_name[name] = by_name.get(name, 0.0) + part
        assert by_name == dict.fromkeys(by_name, pytest.approx(1.0))
    assert max(part for link, part in many.load(0, 64).items() if many.links.block(link).name == "leaf up") < 0.5


def test_a_card_that_reads_devices_through_a_slow_host_is_no_faster_than_that():
    topology = Topology.of("fire-flyer-2")
    rates = max_min_rates([topology.path(0, 8), topology.path(3, 11)], topology.links)
    assert sum(rates) == pytest.approx(9.66e9)


def test_two_devices_of_fire_flyer_share_a_root_port():
    topology = Topology.of("fire-flyer-2")
    rates = max_min_rates([topology.to_host(device) for device in range(8)], topology.links)
    assert rates == [31.5e9] * 5 + [37.5e9 / 2] * 2 + [31.5e9]


def test_a_network_of_any_size_is_a_few_blocks():
    huge = built(nodes=1_000_000, nodes_per_leaf=32, nodes_per_pod=1024, rail_optimised=True)
    assert len(huge.links.blocks) < 20
    assert len(huge.path(0, huge.devices - 1)) == 8


def test_devices_and_links_that_are_not_there_are_refused():
    topology = built()
    with pytest.raises(FleetcastError, match="device 512: test has devices 0 to 511"):
        topology.path(0, 512)
    with pytest.raises(FleetcastError, match=r"link -1: this topology has links 0 to \d+"):
        topology.links.name(-1)
    node = catalog.node("dgx-h100").model_copy(update={"nics": 0})
    bare = Topology(node, cluster())
    assert bare.path(0, 7)
    with pytest.raises(ImpossibleError, match="dgx-h100 has no network card"):
        bare.path(0, 8)
