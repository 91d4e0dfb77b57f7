"""Norms, activations, rotary embedding, embedding, sampling and KV writes, fused as serving engines fuse them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.timer import Call, Timer
from calibration.measurement_work import work

MOST_SETS = 512
VOCABULARY = 32_000  # rows of the embedding table
POSITIONS = 8_192  # rows of the rotary table
HEAD_DIM = 128


class ElementwiseBench:
    """Triton kernels where fusing matters and Triton is installed, else PyTorch's own; `backend` says which."""

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer, self._torch = machine, timer, machine.torch
        self._fused = fused_kernels(machine)
        self._calls: dict[str, Callable[[Point, int], tuple[Call, str]]] = {
            "rmsnorm": self._rms_norm,
            "add_rmsnorm": self._add_rms_norm,
            "layernorm": self._layer_norm,
            "silu_mul": self._silu_mul,
            "gelu": self._gelu,
            "add": self._add,
            "rope": self._rope,
            "embedding": self._embedding,
            "kv_copy": self._kv_copy,
            "sampling": self._sampling,
        }

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        name = point.text("name")
        if name not in self._calls:
            raise CannotMeasureError(f"no kernel for '{name}'")
        done = work("elementwise", point.values)
        assert done is not None
        count = min(MOST_SETS, self._machine.rotations(done.moved_bytes))
        call, backend = self._calls[name](point, count)
        return self._timer.device_time(call, limit_s, 8, {"backend": backend})

    def _rows(self, point: Point, count: int, *, widths: int = 1) -> list[Any]:
        """`count` sets (rows, widths x width)."""
        shape = (point.count("rows"), widths * point.count("width"))
        return self._machine.operands(point.text("dtype"), shape, count)

    def _plain(self) -> str:
        return f"torch {self._torch.__version__}"

    def _rms_norm(self, point: Point, count: int) -> tuple[Call, str]:
        x, weight, width = self._rows(point, count), self._weight(point), point.count("width")
        norm = self._torch.nn.functional.rms_norm
        return lambda i: norm(x[i % count], (width,), weight, 1e-5), self._plain()

    def _layer_norm(self, point: Point, count: int) -> tuple[Call, str]:
        x, weight, width = self._rows(point, count), self._weight(point), point.count("width")
        norm = self._torch.nn.functional.layer_norm
        return lambda i: norm(x[i % count], (width,), weight, weight), self._plain()

    def _add_rms_norm(self, point: Point, count: int) -> tuple[Call, str]:
        both, weight = self._rows(point, 2 * count), self._weight(point)
        residuals = [x.clone() for x in both[count:]]  # written in place, while the pool stays as it was drawn
        if self._fused is not None:
            fused = self._fused.add_rms_norm
            return lambda i: fused(both[i % count], residuals[i % count], weight), "triton, fused"
        norm, width = self._torch.nn.functional.rms_norm, point.count("width")

        def two(i: int) -> Any:
            total = both[i % count] + residuals[i % count]
            return total, norm(total, (width,), weight, 1e-5)

        return two, f"{self._plain()}, not fused"

    def _silu_mul(self, point: Point, count: int) -> tuple[Call, str]:
        both, width = self._rows(point, count, widths=2), point.count("width")
        if self._fused is not None:
            fused = self._fused.silu_mul
            return lambda i: fused(both[i % count]), "triton, fused"
        silu = self._torch.nn.functional.silu
        return lambda i: silu(both[i % count][:, :width]).mul_(
            both[i % count][:, width:]
        ), f"{self._plain()}, not fused"

    def _gelu(self, point: Point, count: int) -> tuple[Call, str]:
        x, gelu = self._rows(point, count), self._torch.nn.functional.gelu
        return lambda i: gelu(x[i % count], approximate="tanh"), self._plain()

    def _add(self, point: Point, count: int) -> tuple[Call, str]:
        x, y = self._rows(point, count), self._rows(point, 2 * count)[count:]
        return lambda i: x[i % count] + y[i % count], self._plain()

    def _rope(self, point: Point, count: int) -> tuple[Call, str]:
        rows, heads = point.count("rows"), point.count("width") // HEAD_DIM
        x = [part.view(rows, heads, HEAD_DIM) for part in self._rows(point, count)]
        angles = self._torch.randn(POSITIONS, HEAD_DIM // 2, device=self._machine.device)
        table = self._torch.cat([angles.cos(), angles.sin()], -1).to(self._machine.dtype(point.text("dtype")))
        positions = self._machine.integers(POSITIONS, (rows,))
        if self._fused is not None:
            fused = self._fused.rope
            return lambda i: fused(x[i % count], table, positions), "triton, fused"
        half = HEAD_DIM // 2

        def pieces(i: int) -> Any:
            at = table[positions][:, None]
            low, high, cos, sin = x[i % count][..., :half], x[i % count][..., half:], at[..., :half], at[..., half:]
            return self._torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

        return pieces, f"{self._plain()}, not fused"

    def _embedding(self, point: Point, count: int) -> tuple[Call, str]:
        table = self._machine.operands(point.text("dtype"), (VOCABULARY, point.count("width")), 1)[0]
        ids = self._machine.integers(VOCABULARY, (count, point.count("rows")))
        gather = self._torch.nn.functional.embedding
        return lambda i: gather(ids[i % count], table), self._plain()

    def _kv_copy(self, point: Point, count: int) -> tuple[Call, str]:
        """Rows written to random slots of a cache, of which half is in use."""
        rows = point.count("rows")
        sets = self._rows(point, 3 * count)
        cache = self._torch.empty(2 * rows, point.count("width"), dtype=sets[0].dtype, device=self._machine.device)
        slots = [self._torch.randperm(2 * rows, device=self._machine.device)[:rows] for _ in range(min(count, 8))]
        return lambda i: cache.index_copy_(0, slots[i % len(slots)], sets[i % count]), self._plain()

    def _sampling(self, point: Point, count: int) -> tuple[Call, str]:
        """Softmax and a draw by exponential noise, which needs no host (as vLLM's sampler does)."""
        x = self._rows(point, count)
        noise = self._torch.empty_like(x[0])

        def draw(i: int) -> Any:
            shares = self._torch.softmax(x[i % count], dim=-1)
            return shares.div_(noise.exponential_()).argmax(dim=-1)

        return draw, self._plain()

    def _weight(self, point: Point) -> Any:
        return self._machine.operands(point.text("dtype"), (point.count("width"),), 1)[0]


def fused_kernels(machine: Machine) -> Any:
    """The module of Triton kernels on a GPU with Triton installed, else None."""
    if not machine.is_gpu or importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("calibration.measure.triton_kernels")
