"""The host's memory bandwidth by the STREAM triad (McCalpin, 1995), and an Adam step over it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from calibration.measure.machine import load_torch
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.statistics import summarise

CHUNK = 2**15  # elements whose second pass stays in a core's cache
ADAM_BYTES = 28  # a parameter: fp32 value, gradient and two moments read, all but the gradient written
FEWEST_REPEATS = 3
MOST_REPEATS = 100


class ProcessorBench:
    """stream_triad (a = b + s c, double precision, numpy on threads) and adam (PyTorch's fused CPU step, fp32)."""

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        name, threads = point.text("name"), point.count("threads")
        if name == "stream_triad":
            with ThreadPoolExecutor(threads) as pool:
                return _timed(_triad(pool, point.count("bytes") // 24, threads), limit_s)
        if name != "adam":
            raise CannotMeasureError(f"no processor measurement called '{name}'")
        torch = load_torch()
        if torch is None:
            raise CannotMeasureError("the fused Adam step needs PyTorch")
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return _timed(_adam(torch, point.count("bytes") // ADAM_BYTES), limit_s)
        finally:
            torch.set_num_threads(before)


def _timed(step: Callable[[], Any], limit_s: float) -> Sample:
    step()
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < FEWEST_REPEATS or (len(seconds) < MOST_REPEATS and time.perf_counter() - started < limit_s):
        before = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - before)
        if time.perf_counter() - started > 4 * limit_s:
            break
    return summarise(seconds)


def _triad(pool: ThreadPoolExecutor, elements: int, threads: int) -> Callable[[], None]:
    random = np.random.default_rng(7)
    block = random.random(min(elements, 2**20))
    b, c = (np.resize(block, elements) for _ in range(2))
    a = np.empty(elements)
    a.fill(1.0)  # touches every page
    edges = np.linspace(0, elements, threads + 1).astype(int)

    def part(low: int, high: int) -> None:
        for start in range(low, high, CHUNK):
            rows = slice(start, min(start + CHUNK, high))
            np.multiply(c[rows], 3.0, out=a[rows])
            np.add(a[rows], b[rows], out=a[rows])

    def step() -> None:
        for finished in [pool.submit(part, edges[i], edges[i + 1]) for i in range(threads)]:
            finished.result()

    return step


def _adam(torch: Any, parameters: int) -> Callable[[], None]:
    with torch.enable_grad():
        weights = torch.randn(parameters).requires_grad_()
    weights.grad = torch.randn(parameters)
    step = torch.optim.Adam([weights], lr=1e-4, fused=True).step

    def call() -> None:
        step()

    return call
