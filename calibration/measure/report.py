"""What a run plans, and what stands in its folder, each as a table of one screen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from calibration.measure.point import Point
from calibration.measure.results import Results
from calibration.measurement import Row
from calibration.measurement_kinds import KINDS
from calibration.measurement_work import work

LEVELS = 4


def plan_table(points: Sequence[Point]) -> str:
    """Points by kind and level."""
    counts = Counter((point.kind, min(point.level, LEVELS - 1)) for point in points)
    header = f"{'kind':18} {'coarse':>7} {'fine':>7} {'finer':>7} {'rest':>7}"
    lines = [
        f"{kind:18} " + " ".join(f"{counts[kind, level]:>7}" for level in range(LEVELS))
        for kind in dict.fromkeys(point.kind for point in points)
    ]
    return "\n".join([header, *lines, f"{len(points)} points in all; those of the first columns are measured first"])


def result_table(results: Results) -> str:
    """Points measured and skipped by kind, and the best rate reached in each."""
    by_kind: defaultdict[str, list[Row]] = defaultdict(list)
    for key, row in results.measured.items():
        by_kind[key[0]].append(row)
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    for (kind, reason), count in sorted(results.skipped.items()):
        skipped[kind].append(f"{count} {reason}")
    lines = [f"{'kind':18} {'points':>6}  {'best':28} skipped now"]
    lines += [
        f"{kind:18} {len(by_kind[kind]):>6}  {_best(kind, by_kind[kind]):28} {', '.join(skipped[kind])}"
        for kind in KINDS
        if by_kind[kind] or skipped[kind]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _best(kind: str, rows: Iterable[Row]) -> str:
    """The highest arithmetic rate and bandwidth, or what else tells a good reading."""
    rates = [rate for row in rows for rate in [_rates(kind, row)] if rate is not None]
    if not rates:
        return ""
    if kind == "power":
        return f"{min(first for first, _ in rates):.0f} to {max(first for first, _ in rates):.0f} W"
    flop, moved = max(first for first, _ in rates), max(second for _, second in rates)
    arithmetic = f"{flop / 1e12:.4g} TFLOP/s, " if flop > 0 and kind != "elementwise" else ""
    return f"{arithmetic}{moved / 1e9:.4g} GB/s"


def _rates(kind: str, row: Row) -> tuple[float, float] | None:
    """(flop/s, bytes/s) of a row; (watts, 0) of power; None where neither means anything."""
    seconds, done = float(row["seconds"]), work(kind, row)
    if done is not None:
        return done.flop / seconds, done.moved_bytes / seconds
    if kind == "power":
        return float(row["watts"]), 0.0
    return (0.0, PAYLOADS[kind](row) / seconds) if kind in PAYLOADS else None


PAYLOADS: dict[str, Callable[[Row], float]] = {  # bytes of a row
    "copy": lambda row: float(row["blocks"]) * float(row["block_bytes"]),
    "storage": lambda row: float(row["block_bytes"]) * float(row["queue_depth"]),
    "collective": lambda row: float(row["payload_bytes"]),
    "cpu": lambda row: float(row["bytes"]),
}
