"""The programme of a day's fleet: as cheap as trying everything, and never dearer for more choice."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.plan import fleet as module
from sim.plan.fleet import Fleet, NodeType, Terms, cheapest_fleet


def cost(types, terms, reserved, rows):
    hours = len(rows[0])
    total = 0.0
    for one, held, row in zip(types, reserved, rows, strict=True):
        starts = sum(max(0, row[h] - row[h - 1]) for h in range(hours))
        total += one.usd_per_h * sum(row) + starts * (one.usd_per_h * terms.boot_h + terms.start_usd)
        total += held * one.usd_per_h * (terms.reserved_ratio or 0.0) * hours
    return total


def brute_force(types, demand, terms, static=False):
    most = [
        min(math.ceil(max(demand) / one.capacity_per_s), one.limit if one.limit is not None else 99) for one in types
    ]
    best = math.inf
    held_counts = [range(m + 1) if terms.reserved_ratio else range(1) for m in most]
    for reserved in itertools.product(*held_counts):
        counts = [range(m - held + 1) for m, held in zip(most, reserved, strict=True)]
        per_hour = [
            [
                row
                for row in itertools.product(*counts)
                if sum(one.capacity_per_s * (n + r) for one, n, r in zip(types, row, reserved, strict=True))
                >= rate - 1e-9
            ]
            for rate in demand
        ]
        for hours in itertools.product(*per_hour):
            if static and len(set(hours)) > 1:
                continue
            best = min(best, cost(types, terms, reserved, list(zip(*hours, strict=True))))
    return best


node_types = st.builds(
    NodeType,
    name=st.sampled_from(["a", "b"]),
    capacity_per_s=st.sampled_from([1.0, 2.5, 3.0]),
    usd_per_h=st.sampled_from([1.0, 2.0, 2.6, 5.0]),
    limit=st.sampled_from([None, 1, 3]),
)
rents = st.builds(
    Terms,
    boot_h=st.sampled_from([0.0, 0.25]),
    start_usd=st.sampled_from([0.0, 1.5]),
    reserved_ratio=st.sampled_from([None, 0.6]),
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(node_types, min_size=1, max_size=2),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 4.0, 5.5]), min_size=2, max_size=3),
    rents,
    st.booleans(),
)
def test_it_is_as_cheap_as_the_best_of_all_fleets(types, demand, terms, static):
    found = cheapest_fleet(types, demand, terms, static=static)
    best = brute_force(types, demand, terms, static)
    if found is None:
        assert math.isinf(best)
        return
    assert found.proved
    assert found.usd == pytest.approx(best, abs=1e-6)
    assert found.relaxed_usd <= found.usd + 1e-6
    assert found.bound_usd <= found.usd + 1e-6
    check(found, demand)


def check(found: Fleet, demand):
    for hour, rate in enumerate(demand):
        running = [row[hour] for row in found.running]
        assert sum(one.capacity_per_s * n for one, n in zip(found.types, running, strict=True)) >= rate - 1e-6
        assert all(one.limit is None or n <= one.limit for one, n in zip(found.types, running, strict=True))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(node_types, min_size=1, max_size=4),
    node_types,
    st.lists(st.floats(0.0, 30.0), min_size=2, max_size=12),
    rents,
    st.floats(0.3, 1.0),
)
def test_more_types_or_cheaper_ones_never_raise_the_cost(types, another, demand, terms, factor):
    found = cheapest_fleet(types, demand, terms)
    more = cheapest_fleet([*types, another], demand, terms)
    if found is None:
        return
    assert more.usd <= found.usd * (1 + 1e-5) + 1e-6
    cheaper = [
        NodeType(name=o.name, capacity_per_s=o.capacity_per_s, usd_per_h=o.usd_per_h * factor, limit=o.limit)
        for o in types
    ]
    assert cheapest_fleet(cheaper, demand, terms).usd <= found.usd * (1 + 1e-5) + 1e-6
    check(more, demand)


def test_a_start_that_costs_much_keeps_nodes_running():
    types, demand = [NodeType(name="a", capacity_per_s=1.0, usd_per_h=1.0)], [3.0, 1.0] * 12
    follows = cheapest_fleet(types, demand, Terms())
    stays = cheapest_fleet(types, demand, Terms(start_usd=10.0))
    assert follows.running[0] == (3, 1) * 12
    assert follows.starts == 24
    assert stays.running[0] == (3,) * 24
    assert stays.starts == 0


def test_reserving_pays_for_what_always_runs_only():
    types, demand = [NodeType(name="a", capacity_per_s=1.0, usd_per_h=1.0)], [2.0] * 20 + [5.0] * 4
    found = cheapest_fleet(types, demand, Terms(reserved_ratio=0.5))
    assert found.reserved == (2,)
    assert found.usd == pytest.approx(2 * 24 * 0.5 + 3 * 4)


def test_a_mixed_fleet_is_cheaper_where_a_small_node_covers_what_is_left():
    types = [
        NodeType(name="large", capacity_per_s=10.0, usd_per_h=8.0),
        NodeType(name="small", capacity_per_s=1.0, usd_per_h=1.0),
    ]
    found = cheapest_fleet(types, [11.0, 22.0], Terms())
    assert found.running == ((1, 2), (1, 2))
    assert found.usd < min(cheapest_fleet([one], [11.0, 22.0], Terms()).usd for one in types)


def test_no_fleet_within_the_limits_is_none():
    assert cheapest_fleet([NodeType(name="a", capacity_per_s=1.0, usd_per_h=1.0, limit=2)], [3.0, 1.0], Terms()) is None
    assert cheapest_fleet([], [3.0, 1.0], Terms()) is None


@pytest.mark.parametrize(
    "keys", [{"boot_h": 1.5}, {"start_usd": -1.0}, {"reserved_ratio": 0.0}, {"reserved_ratio": 2.0}]
)
def test_terms_that_make_no_sense_are_refused(keys):
    with pytest.raises(FleetcastError):
        Terms(**keys)


def test_without_the_solver_a_sentence_says_how_to_install_it(monkeypatch):
    import pulp

    monkeypatch.setattr(pulp.HiGHS, "available", lambda _self: False)
    with pytest.raises(FleetcastError, match=r"pip install highspy"):
        module.solver()
