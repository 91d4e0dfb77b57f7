"""A logarithmic axis of durations that a person can read: ticks at 1, 2 and 5, each with its unit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def log_axis(values_s: NDArray[np.float64]) -> dict[str, Any]:
    """Keys of a plotly axis that holds these durations (all above 0), padded, with at least one tick."""
    low, high = float(np.log10(values_s.min())), float(np.log10(values_s.max()))
    pad = max(0.05 * (high - low), 0.16)
    low, high = low - pad, high + pad
    steps = (1,) if high - low > 2.5 else (1, 2, 5) if high - low > 0.8 else range(1, 10)
    ticks = [step * 10.0**decade for decade in range(int(np.floor(low)), int(np.ceil(high)) + 1) for step in steps]
    shown = [tick for tick in ticks if low <= np.log10(tick) <= high]
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": shown,
        "ticktext": [duration_text(tick) for tick in shown],
    }


def duration_text(seconds: float) -> str:
    """`20 ms`, `1.5 s`."""
    size, unit = next((pair for pair in UNITS if seconds >= 0.9999 * pair[0]), UNITS[-1])
    return f"{seconds / size:,.4g} {unit}"
