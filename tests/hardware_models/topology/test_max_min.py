"""Max-min fairness: no link above its capacity, and nobody could have more but at the cost of someone with less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from hardware_models.topology.max_min import max_min_rates, weighted_rates

LINKS = 8
capacities = st.lists(st.floats(1e6, 1e12), min_size=LINKS, max_size=LINKS)
flow_paths = st.lists(st.lists(st.integers(0, LINKS - 1), min_size=1, max_size=6), max_size=20)


def loads(paths, rates, limit):
    used = [0.0] * len(limit)
    for path, rate in zip(paths, rates, strict=True):
        for link in path:
            used[link] += rate
    return used


@given(paths=flow_paths, limit=capacities)
def test_no_link_carries_more_than_it_can_and_each_flow_is_the_fastest_on_a_full_link(paths, limit):
    rates = max_min_rates(paths, limit)
    used = loads(paths, rates, limit)
    full = {link for link in range(LINKS) if used[link] >= limit[link] * (1 - 1e-9)}
    assert all(load <= bound * (1 + 1e-9) for load, bound in zip(used, limit, strict=True))
    for path, rate in zip(paths, rates, strict=True):
        assert rate > 0.0
        fastest = [max(r for p, r in zip(paths, rates, strict=True) if link in p) for link in path if link in full]
        assert any(rate >= other * (1 - 1e-9) for other in fastest)


@given(paths=flow_paths, limit=capacities, bounds=st.lists(st.floats(1e5, 1e12), min_size=20, max_size=20))
def test_a_flow_with_a_limit_has_that_or_a_full_link(paths, limit, bounds):
    uses = [{link: float(path.count(link)) for link in path} for path in paths]
    rates = weighted_rates(uses, limit, bounds[: len(paths)])
    used = loads(paths, rates, limit)
    for path, rate, bound in zip(paths, rates, bounds, strict=False):
        assert rate <= bound
        assert rate == bound or any(used[link] >= limit[link] * (1 - 1e-9) for link in path)
    assert all(load <= most * (1 + 1e-9) for load, most in zip(used, limit, strict=True))


@given(paths=flow_paths, limit=capacities, seed=st.randoms())
def test_the_order_of_flows_does_not_matter(paths, limit, seed):
    order = list(range(len(paths)))
    seed.shuffle(order)
    rates = max_min_rates(paths, limit)
    shuffled = max_min_rates([paths[place] for place in order], limit)
    assert shuffled == pytest.approx([rates[place] for place in order], rel=1e-9)


def test_the_textbook_line_of_links():
    # one flow over both links, one on each: the long one shares the narrow link, the other takes what is left
    assert max_min_rates([(0, 1), (0,), (1,)], [10.0, 4.0]) == [2.0, 8.0, 2.0]


def test_a_flow_that_crosses_a_link_twice_counts_twice():
    assert max_min_rates([(0, 0), (0,)], [9.0]) == [3.0, 3.0]


def test_a_flow_without_links_is_held_up_by_nobody():
    assert max_min_rates([(), (0,)], [3.0]) == [float("inf"), 3.0]
    assert max_min_rates([], []) == []


def test_a_link_without_capacity_is_refused():
    with pytest.raises(FleetcastError, match=r"link 1: capacity 0\.0 must be above 0"):
        max_min_rates([(0, 1)], [1.0, 0.0])
