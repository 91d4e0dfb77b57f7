"""At which clock a micro-batch passes the stages of a replica, and what each stage takes there.

All GPUs of a replica share one clock: where a power limit binds, the one at which its hungriest stage keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.power.clocks import FULL_CLOCKS, PhaseClocks
from sim.power.throttle import Throttle
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.step_cost import StageCost


class PipelinePace:
    """As fast as clocks and power limits allow."""

    def __init__(
        self,
        stages_at: Callable[[float], list[StageCost]],
        clocks: PhaseClocks = FULL_CLOCKS,
        throttles: Sequence[Throttle] = (),
    ) -> None:
        """stages_at: prices at a clock, a share of boost; throttles: one a stage, or none without a limit."""
        self._stages_at, self._clocks, self._throttles = stages_at, clocks, throttles

    def price(self, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> tuple[float, list[float]]:
        """The clock of the next micro-batch, and the seconds of each stage at it."""
        clock = self._clocks.prefill if load.tokens else self._clocks.decode
        known: dict[float, list[float]] = {}

        def fits(share: float) -> bool:
            known[share] = [one.price(load, decodes, padding, pool)[0] for one in self._stages_at(share)]
            stages = zip(self._throttles, known[share], strict=False)
            return all(one.at(share).joules(seconds, load, decodes, padding, pool) <= 0.0 for one, seconds in stages)

        if not fits(clock):
            clock, _ = self._throttles[0].clock(clock, fits)
        if clock not in known:
            fits(clock)
        return clock, known[clock]
