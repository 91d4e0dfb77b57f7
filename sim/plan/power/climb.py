"""The search for the highest safe number: up in strides until one is not, halves of what is left, then neighbours.

Nothing says that more servers are never safer (a lock that comes earlier may prevent a brake), so the numbers next to
the answer are tried too. Where a number below it is not safe the answer goes below that one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

Asking = Generator[tuple[int, ...], Mapping[int, bool], "Climbed"]  # numbers wanted; is each safe? -> the answer


@dataclass(frozen=True, slots=True)
class Climbed:
    """What a search came to."""

    tried: dict[int, bool]  # number -> is it safe?
    best: int | None  # the highest number such that it and all that were tried below it are safe
    bounded: bool  # was a larger one found unsafe?

    @property
    def above(self) -> int | None:
        """The least number above the answer that is not safe."""
        return min((number for number, safe in self.tried.items() if not safe), default=None)

    @property
    def odd(self) -> list[int]:
        """Numbers that are safe although a smaller one is not."""
        return [] if self.above is None else sorted(n for n, safe in self.tried.items() if safe and n > self.above)


def climb(least: int, most: int, stride: int) -> Asking:
    """Ask for numbers from `least` to `most` and end with what they came to."""
    tried: dict[int, bool] = {}
    at = least
    while True:
        tried |= yield (at,)
        if not tried[at] or at == most:
            break
        at = min(at + stride, most)
    while True:
        low, high = _bracket(tried)
        if low is None:
            break
        if high is None:
            wanted: tuple[int, ...] = ()
        elif high - low > 1:
            wanted = ((low + high) // 2,)
        else:
            wanted = tuple(n for n in (low - 1, high + 1) if least <= n <= most and n not in tried)
        if not wanted:
            break
        tried |= yield wanted
    low, high = _bracket(tried)
    return Climbed(tried, low, high is not None)


def _bracket(tried: Mapping[int, bool]) -> tuple[int | None, int | None]:
    """The highest number with none unsafe up to it, and the least that is unsafe."""
    high = min((number for number, safe in tried.items() if not safe), default=None)
    low = max((number for number, safe in tried.items() if safe and (high is None or number < high)), default=None)
    return low, high
