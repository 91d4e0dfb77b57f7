"""Governors of replicas' clocks on the clock: what each replica's load is, what is chosen, and when that takes effect.

Clocks are set on the server itself, so that a choice takes effect in some tenths of a second, not in the tens of
seconds of a row's out-of-band path.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import simpy

from policies.power.governor import ClockGovernor, Objective, ReplicaLoad
from policies.serving import Sequence as Request
from sim.power.locks import ClockLock
from sim.power.pace import Pace
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.replica import Replica

TENTHS = range(4, 11)  # of boost, of which the usual clocks are: on an H100 790 to 1,980 MHz
Key = tuple[float, int, int, int]  # MHz; tokens of prompts, sequences and context of each, as a table has them
COARSE = 1.1  # between two sizes of a table: a load counts as the next larger


class StepTable:
    """Seconds of a step by clock and load, from the prices that steps are simulated with; made as it is asked for."""

    def __init__(self, pace: Pace, boost_mhz: float, window: int) -> None:
        """pace: one of its own. window: sliding attention window, tokens; 0: none."""
        self._pace, self._boost_mhz, self._window = pace, boost_mhz, window
        self._sizes = [0]
        self._seconds: dict[Key, float] = {}

    def step_s(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """As `StepProfile` has it; sizes are rounded up to those of the table."""
        key = self._key(mhz, prompt_tokens, sequences, context_tokens)
        if key not in self._seconds:
            self._seconds[key] = self._price(*key)
        return self._seconds[key]

    def _key(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> Key:
        each = self._size(-(-context_tokens // sequences)) if sequences else 0
        return mhz, self._size(prompt_tokens), self._size(sequences), each

    def _size(self, count: int) -> int:
        while self._sizes[-1] < count:
            self._sizes.append(int(self._sizes[-1] * COARSE) + 1)
        return self._sizes[bisect_left(self._sizes, count)]

    def _price(self, mhz: float, prompt_tokens: int, sequences: int, context_each: int) -> float:
        load, pool = self._composition(prompt_tokens, sequences, context_each)
        self._pace.lock(mhz / self._boost_mhz)
        return self._pace.price(load, sequences, 0, pool)[1] if prompt_tokens or sequences else 0.0

    def _composition(self, prompt_tokens: int, sequences: int, context_each: int) -> tuple[ChunkLoad, DecodePool]:
        load, pool = ChunkLoad(self._window), DecodePool(1, self._window)
        if prompt_tokens:
            prompt = Request(0, 0.0, prompt_tokens, 1, 0, prompt_tokens)
            load.set([(prompt, prompt_tokens)])
        pool.count, pool.context = sequences, sequences * context_each
        pool.window_context = sequences * min(context_each, self._window)
        return load, pool


def governor_summary(loop: GovernorLoop | None, begin_s: float, duration_s: float) -> dict[str, Any]:
    """Entry "governor" of a summary; nothing without one. The mean is over replicas and time, asleep or at work."""
    if loop is None or not duration_s > 0.0:
        return {}
    span = begin_s, begin_s + duration_s
    held_s = [float(lock.history.held_s(np.array(span))[0]) for lock in loop.locks]
    mean = sum(h * lock.history.mean_clock(*span) for h, lock in zip(held_s, loop.locks, strict=True)) / sum(held_s)
    return {"governor": {"orders": len(loop.orders), "mean_clock_mhz": loop.boost_mhz * mean}}


class GovernorLoop:
    """Looks at every replica once a period, for as long as there is work."""

    def __init__(
        self,
        env: simpy.Environment,
        governor: ClockGovernor,
        tables: Sequence[StepTable],  # of each replica
        clocks_mhz: Sequence[float],
        boost_mhz: float,
        objective: Objective,
        replicas: Sequence[Replica],
        locks: Sequence[ClockLock],  # of each replica
        step_tokens: int,
        period_s: float,
        delay_s: float,
        window_s: float,
        working: Callable[[], bool],
    ) -> None:
        self.orders: list[tuple[float, int, float]] = []  # when given, replica, MHz
        self._env, self._governor, self._tables, self._objective = env, governor, tables, objective
        self.boost_mhz, self._clocks_mhz, self._step_tokens = boost_mhz, clocks_mhz, step_tokens
        self.locks, self._replicas, self._working = locks, replicas, working
        self._period_s, self._delay_s, self._window_s = period_s, delay_s, window_s
        self._ordered = [0.0] * len(replicas)
        env.process(self._look())

    def _look(self) -> Generator[simpy.Event, Any, None]:
        count = 0
        while self._working():
            count += 1
            yield self._env.timeout(count * self._period_s - self._env.now)
            for number, replica in enumerate(self._replicas):
                load = self._load(replica)
                if load is None:
                    continue
                mhz = self._governor.choose(load, self._tables[number], self._clocks_mhz, self._objective)
                if mhz != self._ordered[number]:
                    self._ordered[number] = mhz
                    self.orders.append((self._env.now, number, mhz))
                    self._env.process(self._set(number, mhz))

    def _set(self, number: int, mhz: float) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(self._delay_s)
        self.locks[number].ask("governor", mhz / self.boost_mhz, self._env.now)

    def _load(self, replica: Replica) -> ReplicaLoad | None:
        """None where nothing came lately and nothing is there: the clock stays as it is."""
        now_s = self._env.now
        came = replica.inbox.came(now_s - self._window_s, now_s)
        sequences, context, queued = replica.present(now_s)
        if not came and not sequences:
            return None
        return ReplicaLoad(sequences, context, queued, came, self._step_tokens)
