"""Kernels of a host's CPUs over its memory: bytes that each parameter moves, and parameters a second.

An optimizer step on a CPU streams: a rate in parameters/s is bytes/s of host memory over the bytes that a parameter
touches (ZeRO-Offload, arXiv 2101.06840, section 4.1: its Adam is bound by memory).
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models import catalog
from hardware_models.specs import NodeSpec
from hardware_models.tier_rates_spec import TierRatesSpec

ADAM_BYTES = (
    28.0  # fp32 weight, momentum and variance read and written, a 16-bit gradient read, a 16-bit weight written
)
CAST_BYTES = 6.0  # between fp32 and 16 bits: one read, the other written


@dataclass(frozen=True, slots=True)
class CpuKernels:
    """What processes of one server compute on its CPUs; `adam` in place of the rate that is known of the CPU."""

    node: NodeSpec
    rates: TierRatesSpec
    adam: float | None = None

    @property
    def dram_bytes_per_s(self) -> float:
        """Of all sockets together, as streams reach it."""
        cpu = catalog.cpu(self.node.cpu)
        fraction = self.rates.cpu_dram_fraction.get(self.node.cpu, self.rates.dram_fraction)
        return cpu.memory_bandwidth_bytes_per_s * self.node.cpu_sockets * fraction

    def bytes_per_s(self, processes: int = 1) -> float:
        """Of host memory that so many processes touch together."""
        known = self.rates.adam_parameters_per_s.get(self.node.cpu)
        each = self.rates.process_bytes_per_s if known is None else known * ADAM_BYTES
        return min(processes * each, max(each, self.dram_bytes_per_s))

    def adam_parameters_per_s(self, processes: int = 1) -> float:
        """Parameters that so many processes update together a second."""
        if self.adam is not None:
            return min(processes * self.adam, max(self.adam, self.dram_bytes_per_s / ADAM_BYTES))
        return self.bytes_per_s(processes) / ADAM_BYTES

    def cast_parameters_per_s(self, processes: int = 1) -> float:
        """Parameters that they turn from fp32 to 16 bits, or back, a second."""
        return self.bytes_per_s(processes) / CAST_BYTES

    def flop_per_s(self, processes: int = 1) -> float:
        """Of matrix products in fp32, no more than all sockets have."""
        cpu = catalog.cpu(self.node.cpu)
        peak = cpu.fp32_flop_per_s * self.node.cpu_sockets
        return min(1.0, processes * self.rates.process_flop_fraction) * peak

    def seconds(self, flop: float, moved_bytes: float, processes: int = 1) -> float:
        """Of a kernel that computes and streams at once, such as attention over keys and values in host memory."""
        return max(flop / self.flop_per_s(processes), moved_bytes / self.bytes_per_s(processes))
