"""Layers over pipeline stages so that the slowest stage is as fast as can be, where the ends of the model weigh too.

A split into consecutive layers with the smallest largest sum (the linear partition problem): a bound on the slowest
stage holds if stages filled one after another up to it take all layers, and the smallest such bound is one of the sums
of consecutive layers; bisection over those sums finds it exactly (Skiena, The Algorithm Design Manual, section 10.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hardware_models.errors import ImpossibleError


def balanced_split(layer_s: Sequence[float], stages: int, first_s: float = 0.0, last_s: float = 0.0) -> list[int]:
    """Layers of each stage; layer_s: seconds of each layer; first_s, last_s: what the first and last stage do beside.

    The first and last stage may be left without layers, the others have one at least. Raises ImpossibleError for fewer
    layers than stages in between.
    """
    if len(layer_s) < stages - 2 or stages < 1 or (stages == 1 and not layer_s):
        raise ImpossibleError(f"{len(layer_s)} layers cannot fill {stages} pipeline stages; give fewer stages")
    sums = [0.0, *accumulate(layer_s)]
    bounds = sorted({
        sums[end] - sums[start] + extra
        for start in range(len(sums))
        for end in range(start, len(sums))
        for extra in (0.0, first_s, last_s, first_s + last_s)
    })  # fmt: skip
    low, high = 0, len(bounds) - 1
    while low < high:
        middle = (low + high) // 2
        if _fill(sums, stages, first_s, last_s, bounds[middle]) is None:
            low = middle + 1
        else:
            high = middle
    split = _fill(sums, stages, first_s, last_s, bounds[high])
    assert split is not None  # all layers on one stage are within the largest bound
    return split


def _fill(sums: Sequence[float], stages: int, first_s: float, last_s: float, bound_s: float) -> list[int] | None:
    """Each stage as full as the bound lets it be, while one layer is left for each stage between; None: not enough."""
    layers, at, split = len(sums) - 1, 0, []
    slack = bound_s * 1e-12
    for stage in range(stages):
        own = (first_s if stage == 0 else 0.0) + (last_s if stage == stages - 1 else 0.0)
        least = 0 if stage in (0, stages - 1) else 1
        most = layers - at - max(0, stages - 2 - stage)
        count = 0
        while count < most and sums[at + count + 1] - sums[at] + own <= bound_s + slack:
            count += 1
        if own > bound_s + slack or count < least:
            return None
        split.append(count)
        at += count
    return split if at == layers else None
