"""Dense products: (m, k) activations by an (n, k) weight matrix, as a linear layer holds it."""

from __future__ import annotations

from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.timer import Timer
from calibration.measurement_work import work


class GemmBench:
    """torch.mm for bf16, fp16, fp32 and tf32; torch._scaled_mm (one scale a tensor) for fp8, torch._int_mm for int8."""

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer, self._torch = machine, timer, machine.torch

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        dtype = point.text("dtype")
        if point.text("weight_dtype") != dtype:
            raise CannotMeasureError("no mixed-dtype product in PyTorch")
        done = work("gemm", point.values)
        assert done is not None
        count = self._machine.rotations(done.moved_bytes)
        m, n, k = (point.count(name) for name in "mnk")
        rows, matrices = self._machine.flat(dtype, (count, m, k), (count, n, k))
        weights = matrices.transpose(1, 2)
        product = self.product(dtype)
        operands = [(rows[i], weights[i]) for i in range(count)]
        return self._timer.device_time(lambda i: product(*operands[i % count]), limit_s)

    def product(self, dtype: str) -> Any:
        """The function that multiplies (m, k) by (k, n) in `dtype`."""
        torch = self._torch
        if dtype == "int8":
            return torch._int_mm
        if dtype == "fp8":
            one = torch.ones((), device=self._machine.device)

            def scaled(a: Any, b: Any) -> Any:
                return torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)

            return scaled
        if dtype == "tf32" and not self._machine.is_gpu:
            raise CannotMeasureError("tf32 is a mode of GPUs")
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        return torch.mm
