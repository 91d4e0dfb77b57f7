"""Engines that come and go: off, starting, serving, draining, with no GPU in two of them at once and no request lost.

Requests go to engines that serve. One that drains finishes what it has, and is off; its GPUs may then start another.
What is not to serve any more goes only once what is to serve does, but for engines whose GPUs others need: of these, a
quarter of the units of GPUs at a time, so that the rest can serve.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import Enum
from math import ceil
from typing import Any, Protocol

import simpy

from policies.power.packing import Place

AT_ONCE = 0.25  # of all units that are sharded anew
LOOKS_S = 1.0  # how often a draining engine is asked whether it is done


class State(Enum):
    """Of an engine."""

    OFF = "off"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Drained(Protocol):
    """An engine that may be asked what it has left."""

    outstanding: int


class Held(Protocol):
    """Who is told whether a process has an engine's GPUs."""

    def hold(self, now_s: float, held: bool) -> None:
        """From now on."""


class EngineStates:
    """All engines that there may be; begins with some that serve."""

    def __init__(
        self,
        env: simpy.Environment,
        places: Sequence[Place],
        serving: int,
        unit_gpus: int,
        start_s: Callable[[int, int | None], float],
        on_serving: Callable[[], None],
    ) -> None:
        """serving: the first so many do. start_s: of an engine of a tensor-parallel size, where its GPUs held weights
        for another size (None: none) before. on_serving: called when others serve.
        """
        self.places = places
        self.state = [State.SERVING if number < serving else State.OFF for number in range(len(places))]
        self.changes: list[tuple[float, int, State]] = [(0.0, i, state) for i, state in enumerate(self.state)]
        self.starts, self.stops, self.reshards = 0, 0, 0
        self._env, self._unit_gpus, self._start_s, self._on_serving = env, unit_gpus, start_s, on_serving
        self._wanted = set(range(serving))
        self._loaded: dict[int, int] = {}  # unit -> tensor-parallel size for which it held weights last
        self._engines: Sequence[Drained] = ()
        self._histories: Sequence[Held] = ()

    def begin(self, engines: Sequence[Drained], histories: Sequence[Held]) -> None:
        """With these engines, before the first event."""
        self._engines, self._histories = engines, histories
        for number, state in enumerate(self.state):
            if state is State.OFF:
                histories[number].hold(0.0, False)

    def serving(self) -> list[int]:
        """Numbers of those that take requests."""
        return [number for number, state in enumerate(self.state) if state is State.SERVING]

    def present(self) -> set[Place]:
        """Of those that serve, or are about to."""
        stays = (State.SERVING, State.STARTING)
        return {self.places[number] for number, state in enumerate(self.state) if state in stays}

    def want(self, places: set[Place]) -> None:
        """That these serve, and no others."""
        self._wanted = {number for number, place in enumerate(self.places) if place in places}
        self._reconcile()

    def _reconcile(self) -> None:
        for number in sorted(self._wanted):
            if self.state[number] is State.DRAINING:
                self._change(number, State.SERVING)
            elif self.state[number] is State.OFF and not self._occupied(number):
                self._start(number)
        serving = self.serving()
        leaving = [number for number in serving if number not in self._wanted]
        in_the_way = [number for number in leaving if self._blocks(number)]
        if in_the_way:
            self._make_way(in_the_way, serving)
        elif State.STARTING not in self.state and len(leaving) < len(serving):
            for number in leaving:
                self._drain(number)
        self._on_serving()

    def _make_way(self, numbers: Sequence[int], serving: Sequence[int]) -> None:
        """Drain units of engines whose GPUs others need, few at a time, the last one only where nothing starts."""
        units = sorted({self._unit(number) for number in numbers})
        changing = {self._unit(i) for i, s in enumerate(self.state) if s in (State.STARTING, State.DRAINING)}
        all_units = {self._unit(number) for number in range(len(self.places))}
        room = ceil(AT_ONCE * len(all_units)) - len(changing)
        for unit in units[: max(0, room)]:
            mine = [number for number in numbers if self._unit(number) == unit]
            others = [number for number in serving if self.state[number] is State.SERVING and number not in mine]
            if others or State.STARTING not in self.state:
                for number in mine:
                    self._drain(number)

    def _start(self, number: int) -> None:
        gpus, before = self.places[number].gpus, self._loaded.get(self._unit(number))
        self.starts += 1
        self.reshards += before not in (None, gpus)
        self._change(number, State.STARTING)
        self._env.process(self._starting(number, self._start_s(gpus, None if before == gpus else before)))

    def _starting(self, number: int, start_s: float) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(start_s)
        self._loaded[self._unit(number)] = self.places[number].gpus
        self._change(number, State.SERVING)
        self._reconcile()

    def _drain(self, number: int) -> None:
        self._change(number, State.DRAINING)
        self._env.process(self._draining(number))

    def _draining(self, number: int) -> Generator[simpy.Event, Any, None]:
        yield self._env.timeout(0.0)
        while self.state[number] is State.DRAINING and self._engines[number].outstanding:
            yield self._env.timeout(LOOKS_S)
        if self.state[number] is not State.DRAINING:  # it is wanted again
            return
        unit = self._unit(number)
        self.stops += 1
        self._loaded[unit] = self.places[number].gpus
        self._change(number, State.OFF)
        self._reconcile()
        if all(self.state[i] is State.OFF for i in range(len(self.places)) if self._unit(i) == unit):
            self._loaded.pop(unit, None)  # nobody took over what the GPUs held

    def _change(self, number: int, state: State) -> None:
        now_s, before = self._env.now, self.state[number]
        self.state[number] = state
        self.changes.append((now_s, number, state))
        if State.OFF in (before, state):
            self._histories[number].hold(now_s, state is not State.OFF)

    def _unit(self, number: int) -> int:
        return self.places[number].first // self._unit_gpus

    def _occupied(self, number: int) -> bool:
        """Does another engine hold one of its GPUs?"""
        place = self.places[number]
        others = (i for i, state in enumerate(self.state) if i != number and state is not State.OFF)
        return any(place.overlaps(self.places[i]) for i in others)

    def _blocks(self, number: int) -> bool:
        """Does one that is wanted, and off, need its GPUs?"""
        off = (i for i in self._wanted if self.state[i] is State.OFF)
        return any(self.places[number].overlaps(self.places[i]) for i in off)
