"""At which clock a replica's steps run, and what they cost there."""

from __future__ import annotations

from collections.abc import Callable

from sim.power.clocks import FULL_CLOCKS, PhaseClocks
from sim.power.throttle import Throttle
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.step_cost import StageCost

CostAt = Callable[[float], StageCost]  # a clock, a share of boost -> prices
Price = tuple[float, float, int]  # as of `StageCost.price`


class Pace:
    """As fast as the clocks allow."""

    def __init__(self, cost_at: CostAt, clocks: PhaseClocks = FULL_CLOCKS) -> None:
        self._cost_at = cost_at
        self._set(clocks)

    def lock(self, clock: float) -> None:
        """No step that begins from now on runs faster."""
        self._set(self._clocks.locked(clock))

    def _set(self, clocks: PhaseClocks) -> None:
        self._clocks = clocks
        self._prefill = clocks.prefill, self._cost_at(clocks.prefill)
        self._decode = clocks.decode, self._cost_at(clocks.decode)

    def price(self, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> tuple[float, float, float, int]:
        """The clock of the next step, and `StageCost.price` at it."""
        clock, cost = self._prefill if load.tokens else self._decode
        seconds, slope_s, steps = cost.price(load, decodes, padding, pool)
        return clock, seconds, slope_s, steps

    def steady(self, steps: int, slope_s: float, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> int:
        """How many of so many steps surely keep the clock of the first, which was priced last."""
        return steps


class ThrottledPace(Pace):
    """No faster than GPUs' power limit allows either: a step that would exceed it runs at a lower clock."""

    def __init__(self, cost_at: CostAt, clocks: PhaseClocks, throttle: Throttle) -> None:
        self._throttle = throttle
        super().__init__(cost_at, clocks)
        # Of the step priced last: its clock, what it draws too much there, and the clock above that it does not keep.
        self._clock, self._excess, self._excess_j, self._above = 1.0, self._decode_excess, 0.0, 0.0

    def _set(self, clocks: PhaseClocks) -> None:
        super()._set(clocks)
        self._prefill_excess, self._decode_excess = (self._throttle.at(at) for at in (clocks.prefill, clocks.decode))

    def price(self, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> tuple[float, float, float, int]:
        """The clock of the next step, and `StageCost.price` at it."""
        (clock, cost), excess = self._decode, self._decode_excess
        if load.tokens:
            (clock, cost), excess = self._prefill, self._prefill_excess
        seconds, slope_s, steps = cost.price(load, decodes, padding, pool)
        excess_j = excess.joules(seconds, load, decodes, padding, pool)
        self._clock, self._excess, self._excess_j, self._above = clock, excess, excess_j, 0.0
        if excess_j <= 0.0:
            return clock, seconds, slope_s, steps
        found: dict[float, tuple[Price, float]] = {clock: ((seconds, slope_s, steps), excess_j)}

        def at(share: float) -> tuple[Price, float]:
            if share not in found:
                price = self._cost_at(share).price(load, decodes, padding, pool)
                found[share] = price, self._throttle.at(share).joules(price[0], load, decodes, padding, pool)
            return found[share]

        self._clock, self._above = self._throttle.clock(clock, lambda share: at(share)[1] <= 0.0)
        self._excess = self._throttle.at(self._clock)
        price, self._excess_j = at(self._clock)
        return (self._clock, *price)

    def steady(self, steps: int, slope_s: float, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> int:
        """All, where the last keeps the limit at this clock and exceeds it at the next higher one, as the first does;
        else one. What a step draws too much is a line over the steps of a run.
        """
        if steps < 2:
            return steps
        later = steps - 1
        grown_j = self._excess.growth(slope_s, load, decodes, pool) * later
        if self._excess_j <= 0.0 < self._excess_j + grown_j:
            return 1
        if self._above in (0.0, self._clock):  # the limit does not bind, or the clock cannot fall
            return steps
        above_s, above_slope_s, valid = self._cost_at(self._above).price(load, decodes, padding, pool)
        above = self._throttle.at(self._above)
        steps = min(steps, valid)
        above_j = above.joules(above_s, load, decodes, padding, pool)
        above_j += above.growth(above_slope_s, load, decodes, pool) * (steps - 1)
        return steps if above_j > 0.0 else 1
