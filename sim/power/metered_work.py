"""Work of which one point was metered, its seconds and its watts, at other power limits and clocks.

What ran there need not be known. Its kernels do what those of training a large model do, and slow down with the clock;
the metered watts tell for how much of the time they run. The rest, in which the GPU waits for its input or for
others, takes as long at any clock. Kernels that draw more than that do it at every clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from hardware_models.power import Activity, PowerModel

# Of a pass through GPT-3 175B on 8 A100s, as `sim.training` prices it at boost.
COMPUTE, MEMORY = 0.6, 0.2


@dataclass(frozen=True, slots=True)
class Metered:
    """One point."""

    seconds: float
    watts: float  # their mean


class MeteredWork:
    """On one kind of GPU. Raises ImpossibleError for a limit that no clock keeps, or that was not kept."""

    def __init__(self, model: PowerModel, own: Metered, limit_w: float, clock: float = 1.0) -> None:
        """own: what was metered at a power limit and a locked clock, a share of boost."""
        if own.watts > limit_w:
            raise ImpossibleError(
                f"metered {own.watts:g} W under a limit of {limit_w:g} W; give the limit that was kept"
            )
        self._model = model
        self._own = own
        self._strength = 1.0  # watts that follow from the work, over those of a large model's training
        self._own_clock = self._clock(limit_w, clock)
        self._rest_w = min(self._awake_w(clock), own.watts)
        running_w = self._running_w(self._own_clock)
        if own.watts > running_w:
            idle_w = model.idle_w
            self._strength = (own.watts - idle_w) / (running_w - idle_w)
            running_w = own.watts
        self._running = (own.watts - self._rest_w) / (running_w - self._rest_w)  # share of the time

    def at(self, limit_w: float, clock: float = 1.0) -> Metered:
        """The same work at another limit, or locked at another clock."""
        running_clock = self._clock(limit_w, clock)
        running = self._running * self._own_clock / running_clock
        rest = 1.0 - self._running
        joules = running * self._running_w(running_clock) + rest * min(self._rest_w, self._awake_w(clock))
        return Metered(self._own.seconds * (running + rest), joules / (running + rest))

    def _running_w(self, clock: float) -> float:
        """While kernels run, without a limit."""
        idle_w = self._model.idle_w
        return idle_w + self._strength * (self._model.step_demand(1.0, COMPUTE * clock, MEMORY * clock, clock) - idle_w)

    def _awake_w(self, clock: float) -> float:
        """While none runs."""
        return self._model.step_demand(0.0, 0.0, 0.0, clock)

    def _clock(self, limit_w: float, clock: float) -> float:
        """At which kernels run."""
        idle_w = self._model.idle_w
        if not limit_w > idle_w:
            raise ImpossibleError(
                f"power limit of {limit_w:g} W: the GPU draws {idle_w:.0f} W at any clock; give more than that"
            )
        most_w = idle_w + (limit_w - idle_w) / self._strength
        return min(clock, float(self._model.clock_within(Activity(1.0, COMPUTE, MEMORY), most_w)))
