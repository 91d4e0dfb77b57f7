"""What a point will cost in wall time, from its work and from how long earlier points of its kind took."""

from __future__ import annotations

from dataclasses import dataclass, field

from calibration.measure.point import Point
from calibration.measurement_work import work

FIRST_S: dict[str, float] = {  # a point's wall time beside its own work before any was measured
    "power": 3.5,
    "storage": 1.5,
    "collective": 1.0,
    "cpu": 1.0,
}
OTHERS_S = 0.15
WARM_UP_CALLS = 8  # warm-up and the fewest timed calls together
SHARE_OF_NEWEST = 0.3  # weight of the newest point in the running mean


@dataclass(slots=True)
class Costs:
    """Running estimate by kind: seconds beside the work, and how much slower than `rates` the work goes."""

    flop_per_s: float
    bytes_per_s: float
    seconds_beside: dict[str, float] = field(default_factory=dict)

    def floor_s(self, point: Point) -> float:
        """One call at the device's rates."""
        done = work(point.kind, point.values)
        if done is not None:
            return max(done.flop / self.flop_per_s, done.moved_bytes / self.bytes_per_s)
        return moved_bytes(point) / self.bytes_per_s

    def estimate_s(self, point: Point) -> float:
        """Wall time of measuring a point."""
        beside = self.seconds_beside.get(point.kind, FIRST_S.get(point.kind, OTHERS_S))
        return beside + WARM_UP_CALLS * self.floor_s(point)

    def learn(self, point: Point, wall_s: float) -> None:
        """Take a finished point into account."""
        beside = max(0.0, wall_s - WARM_UP_CALLS * self.floor_s(point))
        before = self.seconds_beside.get(point.kind, beside)
        self.seconds_beside[point.kind] = before + SHARE_OF_NEWEST * (beside - before)


def moved_bytes(point: Point) -> float:
    """Bytes that one call of a point of a system kind (copy, collective, cpu, storage) must move; 0 for others."""
    match point.kind:
        case "copy":
            return float(point.count("blocks") * point.count("block_bytes"))
        case "collective":
            return float(point.count("payload_bytes"))
        case "cpu":
            return float(point.count("bytes"))
        case _:
            return 0.0


def resident_bytes(point: Point) -> float:
    """Device memory that the operands of a point take, outputs and temporaries included (twice its traffic)."""
    done = work(point.kind, point.values)
    if done is not None:
        return 2.0 * done.moved_bytes
    return 4.0 * moved_bytes(point) if point.kind in ("copy", "collective") else 0.0
