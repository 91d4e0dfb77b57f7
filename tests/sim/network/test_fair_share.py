"""Transfers on the clock: bytes are conserved, links never overloaded, and newcomers slow others at once."""

import random

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from hardware_models.topology.collective_flows import drain_seconds, ring, together
from hardware_models.topology.topology import Topology
from policies.task_graph import Link, TaskGraph, Transfer
from sim.network.fair_share import FairNetwork, carried_bytes, max_min_rates
from sim.network.graph_links import GraphLinks

LINKS = 5
links = st.lists(st.floats(1e3, 1e12), min_size=LINKS, max_size=LINKS)
transfer = st.builds(
    Transfer,
    links=st.lists(st.integers(0, LINKS - 1), min_size=1, max_size=3).map(tuple),
    size_bytes=st.one_of(st.just(0.0), st.floats(1.0, 1e9)),
    latency_s=st.one_of(st.just(0.0), st.floats(1e-7, 1.0)),
)
jobs = st.lists(st.tuples(st.one_of(st.just(0.0), st.floats(0.0, 10.0)), transfer), min_size=1, max_size=15)


def run(capacities, starts):
    """Ends of transfers that start at given times, and the stretches of their rates."""
    env, stretches = simpy.Environment(), []
    network = FairNetwork(env, [Link(f"link {n}", rate) for n, rate in enumerate(capacities)], stretches.append)
    ends = [None] * len(starts)

    def send(number, start_s, what):
        yield env.timeout(start_s)
        yield network.transfer(what)
        ends[number] = env.now

    for number, (start_s, what) in enumerate(starts):
        env.process(send(number, start_s, what))
    env.run()
    assert network.flowing == 0
    return ends, stretches


@given(capacities=links, what=transfer)
def test_a_transfer_alone_takes_its_latency_and_its_bytes_over_the_narrowest_link(capacities, what):
    (end_s,), _ = run(capacities, [(0.0, what)])
    crossings = [capacities[link] / what.links.count(link) for link in what.links]
    assert end_s == what.latency_s + what.size_bytes / min(crossings)


@settings(max_examples=80)
@given(capacities=links, starts=jobs)
def test_every_byte_arrives_and_no_link_carries_more_than_it_can(capacities, starts):
    ends, stretches = run(capacities, starts)
    order = sorted(range(len(starts)), key=lambda number: starts[number][0])  # calls are numbered as they come
    carried = carried_bytes(stretches)
    for call, number in enumerate(order):
        assert carried.get(call, 0.0) == pytest.approx(starts[number][1].size_bytes, rel=1e-9, abs=1e-3)
    instants = sorted({stretch.start_s for stretch in stretches})
    for start_s in instants:
        used = [0.0] * LINKS
        for stretch in stretches:
            if stretch.start_s <= start_s < stretch.end_s:
                for link in starts[order[stretch.transfer]][1].links:
                    used[link] += stretch.bytes_per_s
        assert all(load <= limit * (1 + 1e-9) for load, limit in zip(used, capacities, strict=True))
    for (start_s, what), end_s in zip(starts, ends, strict=True):
        alone_s = what.size_bytes / min(capacities[link] / what.links.count(link) for link in what.links)
        assert end_s >= (start_s + what.latency_s + alone_s) * (1 - 1e-12)


@given(capacities=links, paths=st.lists(transfer, min_size=1, max_size=12))
def test_rates_are_those_of_progressive_filling_over_all_flows(capacities, paths):
    paths = [Transfer(what.links, max(what.size_bytes, 1e6)) for what in paths]
    _, stretches = run(capacities, [(0.0, what) for what in paths])
    wanted = max_min_rates([what.links for what in paths], capacities)
    first = {stretch.transfer: stretch.bytes_per_s for stretch in stretches if stretch.start_s == 0.0}
    assert [first[number] for number in range(len(paths))] == pytest.approx(wanted, rel=1e-9)


def ends_by_filling_all_anew(capacities, starts):
    """The same by the plainest means: at every arrival and departure, all rates from scratch."""
    waiting = sorted((start_s + what.latency_s, number) for number, (start_s, what) in enumerate(starts))
    ends, left, now_s = [0.0] * len(starts), {}, 0.0
    while waiting or left:
        flowing = sorted(left)
        rates = max_min_rates([starts[number][1].links for number in flowing], capacities)
        over_s = [now_s + left[number] / rate for number, rate in zip(flowing, rates, strict=True)]
        then_s = min([*over_s, waiting[0][0]] if waiting else over_s)
        for number, rate, end_s in zip(flowing, rates, over_s, strict=True):
            left[number] -= rate * (then_s - now_s)
            if end_s <= then_s * (1 + 1e-13):
                ends[number] = then_s
                del left[number]
        now_s = then_s
        while waiting and waiting[0][0] <= now_s:
            _, number = waiting.pop(0)
            ends[number] = now_s
            if starts[number][1].size_bytes:
                left[number] = starts[number][1].size_bytes
    return ends


@settings(max_examples=100)
@given(capacities=links, starts=jobs)
def test_touching_only_those_affected_ends_every_transfer_when_rating_all_anew_would(capacities, starts):
    ends, _ = run(capacities, starts)
    assert ends == pytest.approx(ends_by_filling_all_anew(capacities, starts), rel=1e-6, abs=1e-9)


@given(capacities=links, starts=jobs)
def test_the_same_transfers_end_at_the_same_moments_every_time(capacities, starts):
    assert run(capacities, starts) == run(capacities, starts)


def test_a_newcomer_halves_the_rate_and_gives_it_back_when_it_ends():
    ends, _ = run([100.0], [(0.0, Transfer((0,), 1000.0)), (5.0, Transfer((0,), 200.0))])
    assert ends == [12.0, 9.0]  # 500 alone, 200 at half, 300 alone


def test_flows_that_share_no_crowded_link_do_not_touch_each_other():
    # three flows over one wide link that none of them can fill
    starts = [(float(n), Transfer((n, 3), 1000.0)) for n in range(3)]
    ends, stretches = run([10.0, 20.0, 40.0, 100.0], starts)
    assert ends == [100.0, 51.0, 27.0]
    assert len(stretches) == 3  # nobody was re-rated


def test_a_link_that_stops_being_crowded_lets_its_flows_go():
    ends, _ = run([60.0, 100.0], [(0.0, Transfer((0, 1), 600.0)), (0.0, Transfer((1,), 100.0))])
    assert ends[1] == 2.0  # half of the second link
    assert ends[0] == pytest.approx(2.0 + 500.0 / 60.0)


def test_what_starts_and_ends_in_one_instant_is_rated_once():
    env, stretches = simpy.Environment(), []
    network = FairNetwork(env, [Link("shared", 100.0)], stretches.append)

    def chain():
        for _ in range(3):
            yield network.transfer(Transfer((0,), 100.0))

    for _ in range(4):
        env.process(chain())
    env.run()
    assert env.now == 12.0
    assert len(stretches) == 12  # one rate a transfer: as some end, as many others start
    assert {stretch.bytes_per_s for stretch in stretches} == {25.0}


def test_transfers_of_nothing_and_over_nothing_take_their_latency():
    ends, _ = run([1.0], [(1.0, Transfer((0,), 0.0, 0.5)), (0.0, Transfer((), 1e9, 2.0)), (3.0, Transfer((), 1.0))])
    assert ends == [1.5, 2.0, 3.0]


def test_many_transfers_over_long_times_keep_their_bytes():
    generator = random.Random(3)
    starts = [
        (generator.uniform(0, 1e5), Transfer(tuple(generator.sample(range(LINKS), 2)), generator.uniform(1, 1e6)))
        for _ in range(400)
    ]
    ends, stretches = run([50.0, 80.0, 100.0, 120.0, 150.0], starts)
    assert sum(carried_bytes(stretches).values()) == pytest.approx(
        sum(what.size_bytes for _, what in starts), rel=1e-12
    )
    assert max(ends) > 1e5


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (Transfer((1,), 1.0), "transfer 0: link 1 is none of the 1"),
        (Transfer((0,), -1.0), r"transfer 0: -1\.0 bytes after 0\.0 s"),
        (Transfer((0,), 1.0, -1.0), r"transfer 0: 1\.0 bytes after -1\.0 s"),
        (Transfer((0,), float("nan")), "transfer 0: nan bytes"),
    ],
)
def test_wrong_transfers_are_refused_in_one_sentence(what, sentence):
    network = FairNetwork(simpy.Environment(), [Link("only", 1.0)])
    with pytest.raises(FleetcastError, match=sentence):
        network.transfer(what)


def test_links_without_bandwidth_are_refused():
    with pytest.raises(FleetcastError, match=r"link 0, broken: 0\.0 bytes/s"):
        FairNetwork(simpy.Environment(), [Link("broken", 0.0)])


def test_rings_beside_each_other_take_on_the_clock_what_their_flows_take_in_closed_form():
    topology = Topology.of("dgx-2-32n")
    graph = TaskGraph()
    made = GraphLinks(graph, topology)
    phase = together(ring(topology, [place, 16 + place, 32 + place], "all_reduce", 1e9) for place in range(4))
    transfers = [made.over(load.links, load.size_bytes, phase.latency_s) for load in phase.loads]
    ends, _ = run([link.bytes_per_s for link in graph.links], [(0.0, what) for what in transfers])
    assert max(ends) == pytest.approx(phase.latency_s + drain_seconds(phase.loads, topology))
    assert max(ends) == pytest.approx(phase.latency_s + 4 / 3 * 1e9 / 6.25e9)


def test_a_graphs_links_are_those_that_its_transfers_cross():
    topology, graph = Topology.of("dgx-h100-superpod"), TaskGraph()
    made = GraphLinks(graph, topology)
    first, second = made.transfer(0, 8, 1e6), made.transfer(0, 16, 1e6)
    assert first.links[:2] == second.links[:2] == (0, 1)
    assert [link.name for link in graph.links[:2]] == ["pcie5-x16 up 0", "card up 0"]
    assert first.latency_s == topology.latency_s(topology.path(0, 8))
    assert made.alone_s(first) == pytest.approx(first.latency_s + 1e6 / 50e9)
