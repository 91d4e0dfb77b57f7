"""Prices an operator on a device: launch + max(compute, memory), efficiency-corrected (the roofline of Williams et
al., 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.efficiency import EfficiencyClass, KernelEfficiency, efficiency_class
from hardware_models.errors import FleetcastError
from hardware_models.ops import (
    AttentionDecode,
    AttentionPrefill,
    DeviceOp,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
)

if TYPE_CHECKING:
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of an operator and what they are made of; arrays broadcast over the operator's sizes."""

    launch_s: Floats
    compute_s: Floats
    memory_s: Floats

    @property
    def seconds(self) -> Floats:
        """Launch, then compute and memory traffic overlapped."""
        return self.launch_s + np.maximum(self.compute_s, self.memory_s)

    @property
    def compute_bound(self) -> NDArray[np.bool_]:
        """Where arithmetic, not memory, sets the pace."""
        return self.compute_s >= self.memory_s


class Device:
    """One GPU: its datasheet and its class's efficiencies."""

    def __init__(self, spec: GpuSpec, efficiency: EfficiencyClass | None = None) -> None:
        self.spec = spec
        self.efficiency = efficiency or efficiency_class(spec.efficiency_class)

    def peak_flop_per_s(self, dtype: str) -> float:
        """Dense matrix rate in `dtype`; raises FleetcastError where the hardware has none."""
        try:
            return self.spec.peak_flop_per_s[dtype]
        except KeyError:
            known = ", ".join(sorted(self.spec.peak_flop_per_s))
            raise FleetcastError(
                f"model.activation_dtype: {self.spec.name} has no {dtype} arithmetic; it has {known}"
                " (narrower weights still save memory: set activation_dtype to one of these)"
            ) from None

    def price(self, op: DeviceOp, clock: float = 1.0) -> Price:
        """Price `op` at a core clock given as a fraction of boost; the clock slows arithmetic, not memory or launch."""
        if isinstance(op, Gemm):
            return self._price_gemm(op, clock)
        kernel, peak = self._kernel(op)
        return self._roofline(kernel, peak * clock, op)

    def floor_s(self, op: DeviceOp) -> Floats:
        """The time no kernel can beat: peak arithmetic or peak bandwidth, no launch (prices are tested against it)."""
        peak = self.peak_flop_per_s("fp32" if isinstance(op, Elementwise | Embedding) else op.dtype)
        return np.maximum(
            np.asarray(op.flop, float) / peak,
            np.asarray(op.moved_bytes, float) / self.spec.memory_bandwidth_bytes_per_s,
        )

    def _kernel(self, op: DeviceOp) -> tuple[KernelEfficiency, float]:
        table = self.efficiency
        if isinstance(op, AttentionDecode):
            return table.attention_decode, self.peak_flop_per_s(op.dtype)
        if isinstance(op, AttentionPrefill):
            return table.attention_prefill, self.peak_flop_per_s(op.dtype)
        if isinstance(op, GroupedGemm):
            return table.grouped_gemm, self.peak_flop_per_s(op.dtype)
        kernel = table.elementwise if isinstance(op, Elementwise) else table.embedding
        return kernel, self.peak_flop_per_s("fp32")

    def _roofline(self, kernel: KernelEfficiency, peak: float, op: DeviceOp) -> Price:
        bandwidth = self.spec.memory_bandwidth_bytes_per_s * kernel.memory_fraction
        compute = np.asarray(op.flop, float) / (peak * kernel.compute_fraction)
        memory = np.asarray(op.moved_bytes, float) / bandwidth
        return Price(np.full_like(compute, kernel.launch_s), compute, memory)

    def _price_gemm(self, op: Gemm, clock: float) -> Price:
        """Tile and wave quantisation: whole tiles on whole waves of multiprocessors, over the best tile and split of
        k.

        A tile of t_m x t_n outputs costs 2 t_m t_n k / (peak / SMs x fraction) on one multiprocessor however few of
        its rows are used; ceil(tiles / SMs) waves run one after another (NVIDIA, Matrix Multiplication Background
        guide, 2020).
        """
        table, sms = self.efficiency.gemm, self.spec.sm_count
        m = np.asarray(op.m, float)
        per_sm = self.peak_flop_per_s(op.dtype) * clock / sms
        bandwidth = self.spec.memory_bandwidth_bytes_per_s * table.memory_fraction
        memory = np.asarray(op.moved_bytes, float) / bandwidth
        partial_sum_bytes = 2 * bytes_per_element("fp32")
        compute = np.full_like(m, np.inf)
        for tile in table.tile:
            tiles = np.ceil(m / tile.m) * np.ceil(op.n / tile.n)
            for split in table.split_k:
                waves = np.ceil(tiles * split / sms)
                seconds = waves * (2.0 * tile.m * tile.n * op.k / split / (per_sm * tile.compute_fraction))
                if split > 1:
                    seconds = seconds + split * m * op.n * partial_sum_bytes / bandwidth
                compute = np.minimum(compute, seconds)
        return Price(np.full_like(compute, table.launch_s), compute, memory)
