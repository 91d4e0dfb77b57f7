"""Which axis moves the goal most: first-order shares of variance, and the means that they come from.

The share of an axis x in a goal y is the correlation ratio eta^2 = Var(E[y|x]) / Var(y) (Pearson, 1905), which is the
first-order sensitivity index of variance-based analysis (Saltelli et al., Global Sensitivity Analysis: The Primer,
2008, chapter 1). On a grid E[y|x] is the mean over all points with that value, exactly. Of samples it is the mean of a
bin (given-data estimation: Plischke, Borgonovo and Smith, European Journal of Operational Research 226, 2013), whose
share by chance, (k - 1) / (n - 1) for k bins and n samples, is taken out: epsilon^2 = 1 - (1 - eta^2) (n - 1) / (n - k)
(Kelley, 1935). What no axis moves alone is interaction, or on samples also noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.metrics import plain
from sim.scenario_file import toml_value
from sim.sweep.definition import Sweep

MOST_LEVELS = 10  # of a sample's numbers; more fall into bins
MOST_BINS = 6
ONLY_NAME = re.compile(r'\{ name = "([^"]*)" \}')
BIN_POINTS = 8  # at least so many points a bin, where there are enough

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one axis."""

    key: str
    share: float  # of the goal's variance, 0..1
    levels: tuple[str, ...]  # values, or bins of them
    means: tuple[float, ...]  # of the goal at each
    counts: tuple[int, ...]  # settings at each

    @property
    def swing(self) -> float:
        """Largest less smallest mean."""
        return max(self.means) - min(self.means)


def effects(sweep: Sweep, settings: pd.DataFrame, metric: str) -> list[Effect]:
    """Of every axis with two values or more, strongest first; none where the goal does not vary.

    None of a list either: its axes move in step, so that each would have the share of all.
    """
    if sweep.method == "list":
        return []
    known = settings[settings[metric].notna()]
    goal = known[metric].to_numpy(dtype=float)
    if len(goal) < 2 or not goal.std() > 1e-12 * max(abs(float(goal.mean())), 1e-300):
        return []
    sampled = sweep.method in ("random", "lhs")
    found = []
    for key in sweep.keys:
        labels, codes = binned(known[key], sampled)
        if len(labels) > 1:
            found.append(_effect(key, labels, codes, goal, sampled))
    return sorted(found, key=lambda effect: (-effect.share, -effect.swing))


def _effect(key: str, labels: list[str], codes: NDArray[np.int64], goal: Floats, sampled: bool) -> Effect:
    counts = np.bincount(codes, minlength=len(labels))
    means = np.bincount(codes, weights=goal, minlength=len(labels)) / counts
    share = float(((means[codes] - goal.mean()) ** 2).sum() / ((goal - goal.mean()) ** 2).sum())
    n, k = len(goal), len(labels)
    if sampled:
        share = 1.0 - (1.0 - share) * (n - 1) / (n - k) if n > k else 0.0
    return Effect(key, min(max(share, 0.0), 1.0), tuple(labels), tuple(map(float, means)), tuple(map(int, counts)))


def binned(values: pd.Series, sampled: bool) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and, for each value, the number of its label; a sample's numbers fall into bins of equal counts."""
    if sampled and values.nunique() > MOST_LEVELS and pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype=float)
        count = max(2, min(MOST_BINS, len(numbers) // BIN_POINTS))
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, count + 1)))
        codes = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
        used, codes = np.unique(codes, return_inverse=True)
        ends = [(numbers[codes == code].min(), numbers[codes == code].max()) for code in range(len(used))]
        return [f"{low:.3g} to {high:.3g}" for low, high in ends], codes.astype(np.int64)
    levels: list[Any] = list(dict.fromkeys(values))
    if pd.api.types.is_numeric_dtype(values):
        levels.sort()
    place = {level: number for number, level in enumerate(levels)}
    return [level_text(level) for level in levels], np.asarray([place[value] for value in values], dtype=np.int64)


def level_text(value: Any) -> str:
    """A value of an axis as a report has it; a policy's table without other keys is its name."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating):
        return plain(float(value)).replace(",", "")
    text = toml_value(value) if isinstance(value, dict | list) else str(value)
    only_name = ONLY_NAME.fullmatch(text)
    return only_name.group(1) if only_name else text
