"""Median and interquartile range of repeated times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.measure.point import Sample
from calibration.measurement_kinds import Value


def summarise(seconds: Sequence[float], calls: int = 1, more: Mapping[str, Value] | None = None) -> Sample:
    """A sample of timed blocks of `calls` calls each; `seconds` are of one call, their mean over the block."""
    low, median, high = np.percentile(np.asarray(seconds, float), [25, 50, 75])
    return Sample(
        seconds=float(median), spread_s=float(high - low), repeats=len(seconds) * calls, more=dict(more or {})
    )
