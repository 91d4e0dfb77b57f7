from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.parallelism.balance import balanced_split


def slowest(layer_s: list[float], split: list[int], first_s: float, last_s: float) -> float:
    at, sums = 0, []
    for count in split:
        sums.append(sum(layer_s[at : at + count]))
        at += count
    sums[0] += first_s
    sums[-1] += last_s
    return max(sums)


def every_split(layers: int, stages: int) -> list[list[int]]:
    cuts = combinations_with_replacement(range(layers + 1), stages - 1)
    splits = [[b - a for a, b in zip((0, *cut), (*cut, layers), strict=True)] for cut in cuts]
    return [split for split in splits if all(count >= 1 for count in split[1:-1])]


@given(
    layer_s=st.lists(st.integers(1, 9).map(float), min_size=2, max_size=8),
    stages=st.integers(1, 4),
    first_s=st.sampled_from([0.0, 1.0, 5.0]),
    last_s=st.sampled_from([0.0, 2.0, 20.0]),
)
@settings(max_examples=150, deadline=None)
def test_no_split_has_a_faster_slowest_stage(layer_s: list[float], stages: int, first_s: float, last_s: float) -> None:
    if len(layer_s) < stages - 2:
        return
    split = balanced_split(layer_s, stages, first_s, last_s)
    assert sum(split) == len(layer_s)
    assert len(split) == stages
    best = min(slowest(layer_s, other, first_s, last_s) for other in every_split(len(layer_s), stages))
    assert slowest(layer_s, split, first_s, last_s) == pytest.approx(best)


def test_a_heavy_head_takes_layers_off_the_last_stage() -> None:
    assert balanced_split([1.0] * 16, 4, 0.0, 3.0) == [5, 5, 5, 1]


def test_too_few_layers_are_refused() -> None:
    with pytest.raises(ImpossibleError, match="2 layers cannot fill 6 pipeline stages"):
        balanced_split([1.0, 1.0], 6)
