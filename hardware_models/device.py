"""Prices an operator on a device by the kernel's calibrated formula, and says how far to trust the price."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.calibrated_kernel import CalibratedKernel, alike, calibrated_kernel
from hardware_models.errors import ImpossibleError
from hardware_models.kernels.attention_decode import price_decode
from hardware_models.kernels.attention_keys import attention_keys, decode_kernel, prefill_kernel
from hardware_models.kernels.attention_prefill import PrefillLines, prefill_lines
from hardware_models.kernels.attention_training import price_attention_training, training_key
from hardware_models.kernels.elementwise import price_elementwise
from hardware_models.kernels.gemm import price_gemm
from hardware_models.kernels.grouped_gemm import price_grouped_gemm
from hardware_models.ops import (
    AttentionDecode,
    AttentionPrefill,
    AttentionTraining,
    DeviceOp,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Size,
)
from hardware_models.original import MIXED, bounded, standing
from hardware_models.price import Floats, Price

if TYPE_CHECKING:
    from hardware_models.specs import GpuSpec

__all__ = ["Device", "Price"]

OUTSIDE = 2.0  # times the spread, for sizes beyond those measured; assumed

OPERATORS: dict[type, str] = {
    Gemm: "gemm",
    GroupedGemm: "grouped_gemm",
    AttentionPrefill: "attention_prefill",
    AttentionDecode: "attention_decode",
    AttentionTraining: "attention_training",
    Elementwise: "elementwise",
    Embedding: "elementwise",
}


class Device:
    """One GPU: its data sheet, its calibrated kernels, and the core clock it runs at, a share of boost."""

    def __init__(self, spec: GpuSpec, clock: float = 1.0) -> None:
        self.spec = spec
        self.clock = clock
        self._standing = standing(spec)
        self._original = Device(catalog.gpu(spec.variation_of)) if spec.variation_of is not None else None

    def peak_flop_per_s(self, dtype: str) -> float:
        """Dense matrix rate in `dtype`; raises ImpossibleError where the hardware has none."""
        try:
            return self.spec.peak_flop_per_s[dtype]
        except KeyError:
            known = ", ".join(sorted(self.spec.peak_flop_per_s))
            raise ImpossibleError(
                f"model.activation_dtype: {self.spec.name} has no {dtype} arithmetic; it has {known}"
                " (narrower weights still save memory: set activation_dtype to one of these)"
            ) from None

    def kernel(self, op: DeviceOp) -> CalibratedKernel:
        """The calibrated kernel that runs an operator."""
        if isinstance(op, AttentionPrefill | AttentionDecode):
            return self._attention_kernel(op)
        if isinstance(op, Elementwise) and op.streaming:
            return calibrated_kernel(self.spec, "elementwise_stream", ("bf16",))
        if isinstance(op, AttentionTraining):
            key = training_key(op, self.spec.architecture, alike(op.dtype))
            return calibrated_kernel(self.spec, OPERATORS[type(op)], (key,))
        key = f"{op.dtype}/{op.weight_dtype}" if isinstance(op, Gemm | GroupedGemm) else "bf16"
        return calibrated_kernel(self.spec, OPERATORS[type(op)], (key,))

    def _attention_kernel(self, op: AttentionPrefill | AttentionDecode) -> CalibratedKernel:
        """Fitted parameters, and what the code that runs on this architecture is known to do."""
        decoding = isinstance(op, AttentionDecode)
        keys = attention_keys(
            alike(op.dtype), alike(op.kv_dtype), qk_dim=int(op.qk_dim), window=op.window, latent=decoding and op.latent,
            mixed=isinstance(op, AttentionDecode) and op.mixed,
        )  # fmt: skip
        found = calibrated_kernel(self.spec, OPERATORS[type(op)], tuple(keys))
        runs = (decode_kernel if decoding else prefill_kernel)(self.spec.architecture, keys[0])
        return replace(found, parameters={**found.parameters, **runs.facts})

    def price(self, op: DeviceOp, clock: float = 1.0) -> Price:
        """Price `op` at a share of the device's own core clock; the clock slows arithmetic, not memory or launch.

        A variation of a catalogued device is bounded by its original where it is better, or worse, in every figure.
        """
        clock *= self.clock
        own = self._by_formula(op, clock)
        if self._standing == MIXED or isinstance(op, AttentionPrefill) or self._original is None:
            return own  # prompt attention is priced by lines, which do not jump
        if op.dtype not in self._original.spec.peak_flop_per_s:
            return own
        return bounded(own, self._original.price(op, clock), self._standing)

    def _by_formula(self, op: DeviceOp, clock: float) -> Price:
        p = self.kernel(op).parameters
        if isinstance(op, Gemm):
            return price_gemm(op, p, self.spec, self.peak_flop_per_s(op.dtype), clock)
        if isinstance(op, GroupedGemm):
            return price_grouped_gemm(op, p, self.spec, self.peak_flop_per_s(op.dtype), clock)
        if isinstance(op, Elementwise | Embedding):
            return price_elementwise(op, p, self.spec, clock)
        self.peak_flop_per_s(op.dtype)  # refuses a format without arithmetic
        if isinstance(op, AttentionTraining):
            return price_attention_training(op, p, self.spec, clock)
        if isinstance(op, AttentionDecode):
            price = price_decode(op, p, self.spec)
        else:
            price = self._lines_at_boost(op).price(np.asarray(op.pairs, float), np.asarray(op.kv_tokens, float))
        return Price(price.launch_s, price.compute_s / clock, price.memory_s)

    def prefill_lines(self, op: AttentionPrefill) -> PrefillLines:
        """What prompt attention of these queries and sequences costs, as lines in pairs and keys."""
        lines = self._lines_at_boost(op)
        return lines if self.clock == 1.0 else lines.slowed(1.0 / self.clock)

    def _lines_at_boost(self, op: AttentionPrefill) -> PrefillLines:
        return prefill_lines(op, self.kernel(op).parameters, self.spec)

    def sigma(self, op: DeviceOp, price: Price) -> Floats:
        """Standard deviation of log(measured / predicted) of a price of `op`, wider for sizes nobody measured."""
        spread = self.kernel(op).sigma(price)
        return np.asarray(np.where(self.outside(op), OUTSIDE * spread, spread))

    def outside(self, op: DeviceOp) -> NDArray[np.bool_]:
        """Where a size of `op` lies outside those its kernel's calibration was measured on."""
        valid, found = self.kernel(op).valid, np.zeros((), dtype=bool)
        for name, size in _sizes(op).items():
            if name in valid:
                low, high = valid[name]
                found = found | (np.asarray(size, float) < low) | (np.asarray(size, float) > high)
        return found

    def floor_s(self, op: DeviceOp) -> Floats:
        """The time no kernel can beat: peak arithmetic, or what must come from memory at peak bandwidth.

        Weights and KV must; activations may still be in the cache. Launches come on top.
        """
        peak = self.peak_flop_per_s("fp32" if isinstance(op, Elementwise | Embedding) else op.dtype)
        moved = op.stored_bytes
        return np.maximum(
            np.asarray(op.flop, float) / peak, np.asarray(moved, float) / self.spec.memory_bandwidth_bytes_per_s
        )


def _sizes(op: DeviceOp) -> dict[str, Size]:
    """The sizes of an operator under the names that fits know them by."""
    if isinstance(op, Gemm):
        return {"m": op.m, "n": op.n, "k": op.k}
    if isinstance(op, GroupedGemm):
        return {"tokens": op.tokens, "experts": op.experts}
    if isinstance(op, AttentionDecode):
        return {"batch": op.queries, "context_tokens": op.kv_tokens / np.asarray(op.queries, float), "heads": op.heads}
    if isinstance(op, AttentionPrefill):
        return {"batch": op.sequences, "new_tokens": op.queries / np.asarray(op.sequences, float), "heads": op.heads}
    if isinstance(op, AttentionTraining):  # a fit to forward timings alone prices backward with a wider error bar
        sizes = {"queries": op.queries, "keys": op.keys, "qk_dim": op.qk_dim, "rows": op.batch * op.queries * op.heads}
        return {**sizes, "backward": float(op.backward)}
    return {}
