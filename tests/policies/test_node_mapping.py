"""Orders of nodes on clusters whose links are unequal."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.parallelism.mapping import Annealing, Best, Exact, GivenOrder, MappingProblem
from policies.parallelism.mapping.annealing import MOVES

few, proof = Annealing(iterations=100), Exact(iterations=30)
ROUNDING = 1 + 1e-9


@st.composite
def problems(draw: st.DrawFn, alike: bool = False) -> MappingProblem:
    nodes, hops, copies = draw(st.integers(2, 5)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    place = st.integers(0, nodes - 1)
    rows = st.lists(st.tuples(place, place), min_size=1, max_size=3)
    times = st.just(1.5) if alike else st.sampled_from([1.0, 1.25, 1.5, 3.0])
    slowdown = np.array([[draw(times) * (a != b) for b in range(nodes)] for a in range(nodes)])
    rings = draw(st.lists(st.lists(st.tuples(st.floats(0.0, 2.0), rows), min_size=1, max_size=2), max_size=2))
    chains_s = np.array([[draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in range(hops)] for _ in range(2)])
    return MappingProblem(slowdown, [[draw(rows) for _ in range(copies)] for _ in range(hops)], chains_s, rings)


@given(problems(), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_annealing_is_never_worse_than_the_identity_and_the_exact_order_is_best_of_all(
    problem: MappingProblem, seed: int
) -> None:
    annealed, exact = few.solve(problem, seed), proof.solve(problem, seed)
    best_s = min(problem.cost_s(order) for order in permutations(range(problem.nodes)))
    assert annealed == few.solve(problem, seed)
    assert exact.optimal
    assert exact.cost_s == pytest.approx(best_s, rel=1e-12)
    assert problem.floor_s <= exact.cost_s * ROUNDING <= annealed.cost_s * ROUNDING**2
    assert annealed.cost_s <= annealed.identity_s == problem.cost_s(problem.identity)
    for found in (annealed, exact):
        assert sorted(found.order) == list(range(problem.nodes))
        assert problem.cost_s(found.order) == found.cost_s
        assert not found.optimal or found.cost_s <= best_s * ROUNDING


@given(problems(alike=True))
@settings(max_examples=15, deadline=None)
def test_on_links_that_are_alike_all_orders_cost_the_same_and_the_identity_is_proved(problem: MappingProblem) -> None:
    for found in (few.solve(problem, 0), Best().solve(problem, 0)):
        assert found.optimal
        assert found.order == problem.identity
        assert found.cost_s == found.identity_s


@given(problems(), st.data())
@settings(max_examples=20, deadline=None)
def test_more_bandwidth_never_makes_the_best_order_slower(problem: MappingProblem, data: st.DataObject) -> None:
    less = [[data.draw(st.sampled_from([1.0, 0.9, 0.5])) for _ in row] for row in problem.slowdown]
    faster = MappingProblem(problem.slowdown * less, problem.hops, problem.chains_s, problem.rings)
    assert proof.solve(faster, 0).cost_s <= proof.solve(problem, 0).cost_s * ROUNDING


@given(st.integers(1, 9), st.data())
@settings(max_examples=30, deadline=None)
def test_every_move_keeps_every_node(size: int, data: st.DataObject) -> None:
    place = st.integers(0, size - 1)
    first, last = sorted((data.draw(place), data.draw(place)))
    for move in MOVES:
        assert sorted(move(list(range(size)), first, last, data.draw(place))) == list(range(size))


def test_a_ring_goes_round_the_one_slow_pair_and_says_so() -> None:
    slowdown = np.where(np.eye(6, dtype=bool), 0.0, 1.0)
    slowdown[0, 1] = slowdown[1, 0] = 2.0
    ring = [(place, (place + 1) % 6) for place in range(6)]
    problem = MappingProblem(slowdown, [], np.zeros((1, 0)), [[(1.0, ring)]])
    found = Best().solve(problem, 0)
    assert (found.by, found.optimal, found.cost_s, found.identity_s) == ("exact", True, 1.0, 2.0)
    assert found.gain_fraction == 0.5


def test_a_search_that_is_cut_short_claims_no_proof_and_what_is_no_order_is_refused() -> None:
    drawn = np.random.default_rng(1).uniform(1.0, 3.0, (9, 9)) * ~np.eye(9, dtype=bool)
    pairs = [[[(place, place + 1)]] for place in range(8)]
    problem = MappingProblem(drawn, pairs, np.ones((1, 8)), [])
    short = Exact(most_looks=20).solve(problem, 0)
    assert not short.optimal
    assert short.cost_s <= short.identity_s
    with pytest.raises(ImpossibleError, match=r"nodes = \[0, 0\] is no order of 9 nodes; name each of 0 to 8 once"):
        GivenOrder(nodes=(0, 0)).solve(problem, 0)
