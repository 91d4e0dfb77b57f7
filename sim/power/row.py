"""A row of servers behind one breaker: what its meter reads, what its controller orders, and when that takes effect."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy
from numpy.typing import NDArray

from hardware_models.server_power import ServerPower
from policies.power import UNLOCKED, Locks, RowPolicy, RowView
from sim.power.locks import ClockLock
from sim.power.meter import ReplicaMeter
from sim.power_section import PowerSection

if TYPE_CHECKING:
    from sim.power.training_row import TrainingServers

Floats = NDArray[np.float64]


@dataclass(slots=True)
class RowLog:
    """Every reading of the row, every order and every brake."""

    t_s: list[float] = field(default_factory=list)  # end of a reading's period
    server_w: list[Floats] = field(default_factory=list)  # mean over the period, at the wall: (servers,)
    gpu_w: list[Floats] = field(default_factory=list)  # of all GPUs of each server: (servers,)
    orders: list[tuple[float, Locks]] = field(default_factory=list)  # when given
    changes: list[tuple[float, float | None, float | None, bool]] = field(
        default_factory=list
    )  # in effect from then on: MHz of low and high priority (None: no lock), and whether the brake holds
    classes: dict[str, Floats] = field(default_factory=dict)  # share of each server that is a class's: (servers,)

    @property
    def row_w(self) -> Floats:
        """Mean watts of the row over each period: (readings,)."""
        return np.array([watts.sum() for watts in self.server_w])


class RowLoop:
    """Reads, decides and acts, each with its delay, for as long as there is work."""

    def __init__(
        self,
        env: simpy.Environment,
        section: PowerSection,
        policy: RowPolicy,
        limit_w: float,
        meter: ReplicaMeter,
        server: ServerPower,
        server_of: NDArray[np.int64],  # of each replica
        idle_gpu_w: Floats,  # of the GPUs of each server that belong to no replica
        pools: Mapping[str, Sequence[ClockLock]],  # by priority
        boost_mhz: float,
        working: Callable[[], bool],
        training: TrainingServers | None = None,
    ) -> None:
        self.log, self.training = RowLog(), training
        self._env, self._section, self._policy, self._limit_w = env, section, policy, limit_w
        self._meter, self._server, self._server_of, self._idle_gpu_w = meter, server, server_of, idle_gpu_w
        serving = np.bincount(server_of, minlength=len(idle_gpu_w)) > 0
        self._cpu_share = np.where(serving, section.cpu_share, 0.0)
        self._pools, self._boost_mhz, self._working = pools, boost_mhz, working
        self._ordered, self._in_effect, self._on_their_way = UNLOCKED, UNLOCKED, 0
        self._braked = False  # ordered
        self._brake_holds = False
        self._acted_s = -inf
        self._lately: deque[tuple[float, float]] = deque()  # when known, and watts: as far as the policy looks back
        env.process(self._read())

    def _read(self) -> Generator[simpy.Event, Any, None]:
        env, period = self._env, self._section.telemetry_period_s
        before = self._meter.joules(0.0)
        count = 0
        while self._working():
            count += 1
            yield env.timeout(count * period - env.now)
            joules = self._meter.joules(env.now)
            replica_w = (joules - before) / period
            before = joules
            gpu_w = self._idle_gpu_w + np.bincount(self._server_of, replica_w, len(self._idle_gpu_w))
            server_w = self._server.watts(gpu_w, self._cpu_share)
            if self.training is not None:
                trained_w = self.training.mean_watts(env.now - period, env.now)
                server_w, gpu_w = np.append(server_w, trained_w[:, 0]), np.append(gpu_w, trained_w[:, 1])
            self.log.t_s.append(env.now)
            self.log.gpu_w.append(gpu_w)
            self.log.server_w.append(server_w)
            env.process(self._decide(float(server_w.sum())))

    def _decide(self, watts: float) -> Generator[simpy.Event, Any, None]:
        if self._section.telemetry_delay_s > 0.0:
            yield self._env.timeout(self._section.telemetry_delay_s)
        self._watch_brake(watts)
        locks = self._policy.decide(self._view(watts))
        if locks != self._ordered:
            self._ordered, self._on_their_way = locks, self._on_their_way + 1
            self.log.orders.append((self._env.now, locks))
            yield self._env.timeout(self._section.actuation_delay_s)
            self._in_effect, self._on_their_way = locks, self._on_their_way - 1
            self._act()

    def _view(self, watts: float) -> RowView:
        now_s, lately = self._env.now, self._lately
        lately.append((now_s, watts))
        while lately[0][0] < now_s - self._policy.looks_back_s:
            lately.popleft()
        return RowView(
            now_s, watts, self._limit_w, self._ordered, self._on_their_way == 0,
            acting=self._in_effect,
            settled_s=0.0 if self._braked else now_s - self._acted_s,
            highest_w=max(known_w for _, known_w in lately),
            training=None if self.training is None else self.training.profile,
            has_low_priority=len(self._pools["low"]) > 0,
        )  # fmt: skip

    def _watch_brake(self, watts: float) -> None:
        """The hardware's own protection: every GPU to its lowest clock, and back once the row is well below."""
        if watts > self._limit_w and not self._braked:
            self._braked = True
            self._env.process(self._brake(True))
        elif watts < self._section.brake_release_fraction * self._limit_w and self._braked and self._brake_holds:
            self._braked = False
            self._env.process(self._brake(False))

    def _brake(self, holds: bool) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(self._section.brake_delay_s)
        self._brake_holds = holds
        self._act()

    def _act(self) -> None:
        """Lock the clocks of all pools as ordered."""
        self._acted_s, low, high = self._env.now, self._in_effect.low_mhz, self._in_effect.high_mhz
        self.log.changes.append((self._env.now, low, high, self._brake_holds))
        self._lock(self._pools["low"], low, self._boost_mhz)
        self._lock(self._pools["high"], high, self._boost_mhz)
        if self.training is not None:
            self._lock([self.training.lock], self._in_effect.training_mhz, self.training.boost_mhz)

    def _lock(self, locks: Sequence[ClockLock], mhz: float | None, boost_mhz: float) -> None:
        clock = 1.0 if mhz is None else mhz / boost_mhz
        if self._brake_holds:
            clock = min(clock, self._section.brake_clock_mhz / boost_mhz)
        for lock in locks:
            lock.ask("row", clock, self._env.now)
