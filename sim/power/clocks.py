"""Core clocks of a replica's GPUs: what they are locked at, and lower ones for prompts or for decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import ImpossibleError
from hardware_models.power import Activity, PowerModel
from hardware_models.specs import GpuSpec
from sim.power_section import PowerSection

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PhaseClocks:
    """Shares of the boost clock."""

    lock: float = 1.0  # no step runs faster
    prefill_most: float = 1.0  # nor one with prompts in it than this
    decode_most: float = 1.0  # nor one without

    @property
    def prefill(self) -> float:
        """Of a step with a prompt, or a part of one, in it."""
        return min(self.lock, self.prefill_most)

    @property
    def decode(self) -> float:
        """Of a step that only decodes."""
        return min(self.lock, self.decode_most)

    def locked(self, clock: float) -> PhaseClocks:
        """The same with another lock."""
        return replace(self, lock=clock)


FULL_CLOCKS = PhaseClocks()


class ClockHistory:
    """Since when which clock is locked, and what a GPU without work has drawn meanwhile."""

    def __init__(self, model: PowerModel, clock: float) -> None:
        self._model = model
        self.since_s, self.clocks = [0.0], [clock]
        self.held = [1.0]  # 0.0: no process on the GPU
        self._joules = [0.0]  # up to then
        self._known: tuple[Floats, Floats, Floats] | None = None  # as arrays: since when, joules up to then, watts

    def change(self, now_s: float, clock: float) -> None:
        """Another clock from now on."""
        self._note(now_s, clock, self.held[-1])

    def hold(self, now_s: float, held: bool) -> None:
        """From now on a process has the GPU, or none has: what it draws then is nobody's here."""
        self._note(now_s, self.clocks[-1], float(held))

    def _note(self, now_s: float, clock: float, held: float) -> None:
        self._joules.append(float(self.awake_joules(np.array([now_s]))[0]))
        self.since_s.append(now_s)
        self.clocks.append(clock)
        self.held.append(held)
        self._known = None

    def held_s(self, edges_s: Floats) -> Floats:
        """How long between instants a process had the GPU: (spans,)."""
        return np.diff(self._integral(np.array(self.held), edges_s))

    def clock_s(self, edges_s: Floats) -> Floats:
        """Between instants, the clock times the seconds at it while a process had the GPU: (spans,)."""
        return np.diff(self._integral(np.array(self.held) * self.clocks, edges_s))

    def mean_clock(self, begin_s: float, end_s: float) -> float:
        """Over a span of time in which a process had the GPU, a share of boost."""
        edges_s = np.array([begin_s, end_s])
        held_s = float(self.held_s(edges_s)[0])
        return float(self.clock_s(edges_s)[0]) / held_s if held_s > 0.0 else self.clocks[0]

    def _integral(self, rates: Floats, times_s: Floats) -> Floats:
        """Of a rate since each change, from 0 to instants: (instants,)."""
        since_s = np.array(self.since_s)
        sums = np.concatenate([[0.0], np.cumsum(np.diff(since_s) * rates[:-1])])
        at = np.searchsorted(since_s, times_s, side="right") - 1
        return np.asarray(sums[at] + rates[at] * (times_s - since_s[at]))

    def awake_joules(self, times_s: Floats) -> Floats:
        """Of one GPU on which a process waits for work, from 0 to each instant."""
        if self._known is None:
            watts = self._model.watts(Activity(0.0, 0.0, 0.0), np.array(self.clocks)) * self.held
            self._known = np.array(self.since_s), np.array(self._joules), watts
        since, joules, watts = self._known
        at = np.searchsorted(since, times_s, side="right") - 1
        return np.asarray(joules[at] + watts[at] * (times_s - since[at]))


def phase_clocks(power: PowerSection, gpu: GpuSpec) -> PhaseClocks:
    """As [power] has them; raises ImpossibleError for a clock above the device's boost."""
    return PhaseClocks(
        clock_share("power.clock_mhz", power.clock_mhz, gpu),
        clock_share("power.prefill_clock_mhz", power.prefill_clock_mhz, gpu),
        clock_share("power.decode_clock_mhz", power.decode_clock_mhz, gpu),
    )


def clock_share(key: str, mhz: float | None, gpu: GpuSpec) -> float:
    """A clock as a share of boost, which None stands for."""
    boost_mhz = gpu.boost_clock_hz / 1e6
    if mhz is None:
        return 1.0
    if not mhz > 0.0:
        raise ImpossibleError(f"{key} = {mhz:g}: is no clock; give a number of MHz above 0")
    if mhz > boost_mhz:
        raise ImpossibleError(f"{key} = {mhz:g}: {gpu.name} runs at {boost_mhz:g} MHz at most; give no more")
    return mhz / boost_mhz


class AwakeJoules:
    """What one GPU of each replica would have drawn without work, from 0 to given instants."""

    def __init__(self, histories: Sequence[ClockHistory]) -> None:
        """histories: one a replica; those locked together share one."""
        self._histories = list({id(history): history for history in histories}.values())
        self._kind = np.array([self._histories.index(history) for history in histories])

    @property
    def each(self) -> list[ClockHistory]:
        """The history of each replica."""
        return [self._histories[kind] for kind in self._kind]

    def held_s(self, edges_s: Floats) -> Floats:
        """How long between instants each replica's GPUs had a process: (replicas, spans)."""
        return np.asarray(np.array([history.held_s(edges_s) for history in self._histories])[self._kind])

    def until(self, replica: NDArray[np.int64], times_s: Floats) -> Floats:
        """Joules: (n,), for numbers of replicas (n,) and instants (n,)."""
        joules = np.zeros(len(replica))
        for kind, history in enumerate(self._histories):
            chosen = self._kind[replica] == kind
            joules[chosen] = history.awake_joules(times_s[chosen])
        return joules
