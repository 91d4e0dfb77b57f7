"""What the host pays: launching kernels, replaying graphs, waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.statistics import summarise
from calibration.measure.timer import Timer

ELEMENTS = 1024  # of the smallest useful kernel
MOST_REPEATS = 200
FEWEST_REPEATS = 5


class HostBench:
    """Names: kernel_launch (host time to queue `count` kernels), kernel_chain (device time of `count` dependent tiny
    kernels), graph_launch (host time to start a graph of `count` kernels), graph_replay (device time of that graph),
    synchronize (a launch and a wait for it, `count` times), python_op (a PyTorch operator on a tiny CPU tensor).
    """

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer, self._torch = machine, timer, machine.torch

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        name, count = point.text("name"), point.count("count")
        if name == "python_op":
            tiny = self._torch.ones(8)
            return self._host_only(lambda: _repeat(tiny, count), limit_s)
        if not self._machine.is_gpu:
            raise CannotMeasureError("kernel launches need a GPU")
        tiny = self._machine.operands("fp32", (ELEMENTS,), 1)[0].clone()
        match name:
            case "kernel_launch":
                return self._host_only(lambda: _repeat(tiny, count), limit_s)
            case "kernel_chain":
                return self._timer.device_time(lambda _: _repeat(tiny, count), limit_s, count)
            case "graph_launch" | "graph_replay":
                replay = self._graph(tiny, count).replay
                if name == "graph_launch":
                    return self._host_only(replay, limit_s)
                return self._timer.device_time(lambda _: replay(), limit_s, max(1, count // 4))
            case "synchronize":
                return self._host_only(lambda: self._waits(tiny, count), limit_s)
            case _:
                raise CannotMeasureError(f"no host cost called '{name}'")

    def _graph(self, tiny: Any, count: int) -> Any:
        _repeat(tiny, 3)
        self._machine.synchronize()
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            _repeat(tiny, count)
        return graph

    def _waits(self, tiny: Any, count: int) -> None:
        for _ in range(count):
            _repeat(tiny, 1)
            self._machine.synchronize()

    def _host_only(self, work: Callable[[], Any], limit_s: float) -> Sample:
        """Host seconds until `work` returns; the device is idle at the start of each."""
        for _ in range(3):
            work()
        seconds: list[float] = []
        started = time.perf_counter()
        while len(seconds) < FEWEST_REPEATS or (
            len(seconds) < MOST_REPEATS and time.perf_counter() - started < limit_s
        ):
            self._machine.synchronize()
            before = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - before)
        self._machine.synchronize()
        return summarise(seconds)


def _repeat(tiny: Any, count: int) -> None:
    for _ in range(count):
        tiny.neg_()
