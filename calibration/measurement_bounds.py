"""Refuses times that no device could have taken: the mark of a wrong unit, of lost bytes or of a failed timer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.measurement_work import Row, work
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from hardware_models.specs import GpuSpec

FASTEST_COMPUTE = 1.05  # of the datasheet's peak: clocks above the quoted one
FASTEST_MEMORY = 1.3  # of the datasheet's bandwidth: a part of the operands still in the last cache
SLOWEST = 1000.0  # times the roofline: milliseconds given as seconds
LAUNCH_S = 5e-6  # of one kernel
ANY_FLOP_PER_S = 1e18  # beyond any device, where none is known
ANY_BYTES_PER_S = 1e14
SLOW_FLOP_PER_S = 1e10  # one core of a CPU
SLOW_BYTES_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Bounds:
    """The shortest and the longest believable time of a point."""

    low_s: float
    high_s: float

    def mistake(self, seconds: float) -> str | None:
        """What a time outside suggests, or None."""
        if seconds < self.low_s:
            return f"no shorter than {self.low_s:.3g} s by the datasheet; looks like a wrong unit, give seconds"
        if seconds > self.high_s:
            return f"no longer than {self.high_s:.3g} s if all is well; looks like milliseconds, give seconds"
        return None


def bounds(kind: str, row: Row, spec: GpuSpec | None, link_bytes_per_s: float | None = None) -> Bounds | None:
    """Bounds of a point on a GPU (`spec`) or on an unknown device (None); None where nothing bounds the kind.

    link_bytes_per_s: the GPU's link to its host, one direction, for kind `copy`.
    """
    if kind == "copy":
        return _copy_bounds(row, spec, link_bytes_per_s)
    if kind == "storage":
        return _rate_bounds(float(row["block_bytes"]) * float(row["queue_depth"]), 1e12, 1e2, 1.0)
    if kind == "cpu":
        return _rate_bounds(float(row["bytes"]), 1e13, 1e7, 1e-3)
    if kind == "collective":
        return _rate_bounds(float(row["payload_bytes"]), 1e14, 1e5, 1e-1)
    if kind == "host":
        return Bounds(1e-8, 1e-2 * float(row["count"]) + 1e-2)
    return _roofline_bounds(kind, row, spec)


def _roofline_bounds(kind: str, row: Row, spec: GpuSpec | None) -> Bounds | None:
    done = work(kind, row)
    if done is None:
        return None
    launches_s = LAUNCH_S * done.launches
    if spec is None:
        low = max(done.flop / ANY_FLOP_PER_S, done.moved_bytes / ANY_BYTES_PER_S)
        slow = max(done.flop / SLOW_FLOP_PER_S, done.moved_bytes / SLOW_BYTES_PER_S)
        return Bounds(low, SLOWEST * (launches_s + slow))
    peak = _peak(spec, done.peak_dtype)
    compute, memory = done.flop / peak, done.moved_bytes / spec.memory_bandwidth_bytes_per_s
    low = compute / FASTEST_COMPUTE
    if done.moved_bytes > spec.l2_bytes:
        low = max(low, memory / FASTEST_MEMORY)
    return Bounds(low, SLOWEST * (launches_s + max(compute, memory)))


def _peak(spec: GpuSpec, dtype: str) -> float:
    if not dtype:
        return float("inf")
    if dtype not in spec.peak_flop_per_s:
        raise FleetcastError(f"dtype = '{dtype}': {spec.name} has no such arithmetic; correct the dtype or the device")
    return spec.peak_flop_per_s[dtype]


def _copy_bounds(row: Row, spec: GpuSpec | None, link_bytes_per_s: float | None) -> Bounds:
    payload = float(row["blocks"]) * float(row["block_bytes"])
    if row["direction"] == "d2d":
        beyond = spec is not None and 2 * payload > spec.l2_bytes
        fastest = spec.memory_bandwidth_bytes_per_s / 2 if spec is not None and beyond else ANY_BYTES_PER_S
    else:
        fastest = link_bytes_per_s or ANY_BYTES_PER_S
    return Bounds(payload / (FASTEST_MEMORY * fastest), SLOWEST * (LAUNCH_S * float(row["blocks"]) + payload / 1e9))


def _rate_bounds(moved: float, fastest_bytes_per_s: float, slowest_bytes_per_s: float, start_s: float) -> Bounds:
    return Bounds(moved / fastest_bytes_per_s, start_s + moved / slowest_bytes_per_s)
