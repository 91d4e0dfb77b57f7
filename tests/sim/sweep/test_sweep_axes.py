import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sweep.axes import Axis, Choices, Range, count, settings

AXES = st.lists(
    st.one_of(
        st.integers(1, 5).map(lambda n: Choices("a", tuple(range(n)))),
        st.tuples(st.floats(0.1, 10), st.floats(11, 1000), st.booleans()).map(
            lambda t: Range("b", t[0], t[1], log=t[2])
        ),
        st.tuples(st.integers(1, 50), st.integers(51, 90), st.booleans()).map(
            lambda t: Range("c", t[0], t[1], log=t[2], integer=True)
        ),
    ),
    min_size=1,
    max_size=4,
)


def share_of(axis: Range, value: float) -> float:
    """Where in its range a value lies."""
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_holds_every_combination_once(sizes: list[int]) -> None:
    axes = [Choices(str(number), tuple(range(size))) for number, size in enumerate(sizes)]
    found = list(settings(axes, "grid", 0, 0))
    assert found == list(itertools.product(*(range(size) for size in sizes)))
    assert len(found) == count(axes, "grid", 0) == math.prod(sizes)


def test_a_list_takes_values_in_step() -> None:
    axes = [Choices("a", (1, 2)), Choices("b", ("x", "y"))]
    assert list(settings(axes, "list", 0, 0)) == [(1, "x"), (2, "y")]


@given(st.integers(1, 60), st.integers(0, 5), st.floats(0.01, 5), st.floats(6, 1e6), st.booleans())
def test_a_latin_hypercube_has_one_sample_in_each_stratum(
    n: int, seed: int, low: float, high: float, log: bool
) -> None:
    axes = [Range("a", low, high, log=log), Range("b", 0.0, 1.0)]
    rows = list(settings(axes, "lhs", n, seed))
    for number, axis in enumerate(axes):
        shares = np.asarray([share_of(axis, row[number]) for row in rows])
        nearest = np.sort(shares * n)
        assert np.all(nearest >= np.arange(n) - 1e-6)
        assert np.all(nearest <= np.arange(n) + 1 + 1e-6)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 9))
def test_every_value_of_a_list_comes_up_equally_often_in_a_latin_hypercube(size: int, times: int, seed: int) -> None:
    axes = [Choices("a", tuple(range(size))), Choices("b", (1, 2))]
    found = Counter(row[0] for row in settings(axes, "lhs", size * times, seed))
    assert found == dict.fromkeys(range(size), times)


@given(AXES, st.sampled_from(["random", "lhs"]), st.integers(1, 30), st.integers(0, 3))
def test_samples_stay_in_their_ranges_and_a_seed_gives_the_same_ones(
    axes: list[Axis], method: str, n: int, seed: int
) -> None:
    first = list(settings(axes, method, n, seed))  # type: ignore[arg-type]
    assert first == list(settings(axes, method, n, seed))  # type: ignore[arg-type]
    assert len(first) == n
    for row in first:
        for axis, value in zip(axes, row, strict=True):
            if isinstance(axis, Choices):
                assert value in axis.levels()
            else:
                assert axis.low <= value <= axis.high
                assert isinstance(value, int) == axis.integer


def test_another_seed_draws_other_samples() -> None:
    axes = [Range("a", 0.0, 1.0)]
    assert list(settings(axes, "random", 5, 0)) != list(settings(axes, "random", 5, 1))


@pytest.mark.parametrize(
    ("axis", "levels"),
    [
        (Range("a", 1, 3, points=3), (1.0, 2.0, 3.0)),
        (Range("a", 1, 100, log=True, points=3), (1.0, 10.0, 100.0)),
        (Range("a", 1, 4, integer=True, points=9), (1, 2, 3, 4)),
        (Range("a", 8, 512, log=True, integer=True, points=7), (8, 16, 32, 64, 128, 256, 512)),
        (Range("a", 1, 3, points=1), (1.0,)),
    ],
)
def test_levels_of_a_range_are_even_and_end_at_its_ends(axis: Range, levels: tuple[float, ...]) -> None:
    assert axis.levels() == pytest.approx(levels, rel=1e-12)
    assert [type(level) for level in axis.levels()] == [type(level) for level in levels]


def test_whole_numbers_are_drawn_alike() -> None:
    found = Counter(row[0] for row in settings([Range("a", 1, 4, integer=True)], "lhs", 400, 0))
    assert found == dict.fromkeys(range(1, 5), 100)
