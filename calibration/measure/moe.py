"""A gated mixture-of-experts layer on rows that are sorted by expert already: both projections and the activation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.measure.elementwise import fused_kernels
from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.timer import Timer
from calibration.measurement_work import work

LOOP = "torch.mm, one expert after another"
GROUPED = "torch._grouped_mm"
SCALED = "torch._scaled_grouped_mm"


def rows_per_expert(tokens: int, experts: int, top_k: int, skew: float) -> NDArray[np.int64]:
    """(experts,) rows that each expert gets, descending: shares as (i + 1)^-skew, none above `tokens`.

    They sum to tokens x top_k; without skew and with more rows than experts they differ by at most one.
    """
    weights = np.arange(1, experts + 1, dtype=float) ** -skew
    rows = np.zeros(experts, np.int64)
    left = tokens * top_k
    while left:
        open_ = rows < tokens
        share = np.where(open_, weights, 0.0)
        wanted = np.minimum(np.floor(left * share / share.sum()).astype(np.int64), tokens - rows)
        if not wanted.any():
            first = np.flatnonzero(open_)[:left]
            wanted[first] = 1
        rows += wanted
        left -= int(wanted.sum())
    return rows


class MoeBench:
    """Grouped products where PyTorch has them for the dtype, else a loop over experts, named in `backend`."""

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer, self._torch = machine, timer, machine.torch

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        dtype = point.text("dtype")
        if point.text("weight_dtype") != dtype:
            raise CannotMeasureError("no mixed-dtype grouped product in PyTorch")
        tokens, hidden, inner = (point.count(name) for name in ("tokens", "hidden", "intermediate"))
        experts, top_k = point.count("experts"), point.count("top_k")
        loads = rows_per_expert(tokens, experts, top_k, float(point.values["skew"]))
        done = work("moe", point.values)
        assert done is not None
        count = min(16, self._machine.rotations(done.moved_bytes))
        machine = self._machine
        rows, pool = machine.flat(dtype, (count, tokens * top_k, hidden), (count, experts, 3 * inner, hidden))
        ups = [pool[i, :, : 2 * inner].transpose(-2, -1) for i in range(count)]
        downs = [pool[i, :, 2 * inner :].reshape(experts, hidden, inner).transpose(-2, -1) for i in range(count)]
        backend = self._backend(dtype)
        product = self._product(backend, loads)
        convert = machine.dtype(dtype)
        activation = self._activation(inner)

        def layer(i: int) -> Any:
            gated = activation(product(rows[i % count], ups[i % count]))
            return product(gated.to(convert), downs[i % count])

        launches = 8 if backend != LOOP else 4 + 2 * experts
        return self._timer.device_time(layer, limit_s, launches, {"backend": backend})

    def _activation(self, inner: int) -> Any:
        """silu(gate) x up of (rows, 2 inner), fused where Triton is installed."""
        fused = fused_kernels(self._machine)
        if fused is not None:
            return fused.silu_mul
        silu = self._torch.nn.functional.silu
        return lambda both: silu(both[:, :inner]).mul_(both[:, inner:])

    def _backend(self, dtype: str) -> str:
        if dtype == "fp8":
            return SCALED
        return GROUPED if self._machine.is_gpu and hasattr(self._torch, "_grouped_mm") and dtype == "bf16" else LOOP

    def _product(self, backend: str, loads: NDArray[np.int64]) -> Any:
        """(rows, k) by (experts, k, n), row ranges by expert."""
        torch, ends = self._torch, np.cumsum(loads)
        offsets = torch.tensor(ends.tolist(), dtype=torch.int32, device=self._machine.device)
        if backend == GROUPED:
            return lambda a, b: torch._grouped_mm(a, b, offs=offsets)
        if backend == SCALED:
            return self._scaled(offsets, int(ends[-1]), len(loads))
        ranges = [(i, int(a), int(b)) for i, (a, b) in enumerate(pairwise([0, *ends])) if b > a]

        def loop(a: Any, b: Any) -> Any:
            return torch.cat([a[low:high] @ b[i] for i, low, high in ranges])

        return loop

    def _scaled(self, offsets: Any, rows: int, experts: int) -> Any:
        torch, device = self._torch, self._machine.device
        by_row = torch.ones(rows, device=device)
        by_column: dict[int, Any] = {}

        def product(a: Any, b: Any) -> Any:
            scale = by_column.setdefault(b.shape[-1], torch.ones(experts, b.shape[-1], device=device))
            return torch._scaled_grouped_mm(
                a, b, by_row, scale, offs=offsets, out_dtype=torch.bfloat16, use_fast_accum=True
            )

        return product
