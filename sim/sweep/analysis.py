"""What a sweep says: each setting over its seeds, the best one, how sure that is, and the trade-off of two metrics."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from sim.metrics import Metric
from sim.sweep.columns import WITH_INTERVAL
from sim.sweep.definition import Sweep
from sim.sweep.goal import Goal
from sim.sweep.point import FAILED, INFEASIBLE, OK
from sim.sweep.sensitivity import Effect, effects

CONFIDENCE = 0.90
TIE = 1e-9  # share of the goal within which settings are equal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """Of the rows of a sweep, finished or not."""

    sweep: Sweep
    settings: pd.DataFrame  # one row a setting whose seeds all have an answer; see `setting_means`
    ranked: pd.DataFrame  # of these, those that keep every limit, best first
    front: pd.DataFrame  # of all settings, those that no other beats in both metrics of goal.pareto
    effects: list[Effect]  # of each axis on the goal, strongest first
    statuses: dict[str, int]  # status -> points
    reasons: list[tuple[str, str, int]]  # status, reason, points; most points first

    @property
    def goal(self) -> Goal:
        """What it is judged by."""
        return self.sweep.goal

    @property
    def best(self) -> pd.Series | None:
        """The best setting; None where none keeps the limits."""
        return self.ranked.iloc[0] if len(self.ranked) else None

    @property
    def runner_up(self) -> pd.Series | None:
        """The next best."""
        return self.ranked.iloc[1] if len(self.ranked) > 1 else None

    @property
    def ties(self) -> int:
        """Settings as good as the best one, itself counted."""
        if not len(self.ranked):
            return 0
        values = self.ranked[self.goal.metric.key].to_numpy(dtype=float)
        return int(np.sum(np.abs(values - values[0]) <= TIE * max(abs(values[0]), 1e-300)))

    @property
    def nearest(self) -> pd.Series | None:
        """Where none keeps the limits: the setting whose worst breach is the smallest share of its limit."""
        if len(self.ranked) or not len(self.settings):
            return None
        worst = self.settings["breach"].to_numpy(dtype=float)
        return self.settings.iloc[int(worst.argmin())] if np.isfinite(worst.min()) else None

    @property
    def seeds_change_nothing(self) -> bool:
        """Has every seed the same goal, of the best setting and the next? Nothing was drawn by chance that matters."""
        rows = [row for row in (self.best, self.runner_up) if row is not None]
        return len(self.sweep.seeds) > 1 and not any(varies(row, self.goal.metric) for row in rows)

    def too_close(self) -> bool:
        """Do the 90 % intervals of the best setting and the next meet?

        They are those of `sim.serving.error_bars`: what is unsure is mostly the same in both, so that apart is apart,
        and meeting is a warning rather than a draw.
        """
        best, other = self.best, self.runner_up
        if best is None or other is None:
            return False
        (low, high), (other_low, other_high) = (bars(row, self.goal.metric) for row in (best, other))
        return bool(other_high >= low if self.goal.maximize else other_low <= high)

    def by_chance(self) -> tuple[float, float] | None:
        """90 % t-interval of the best's mean lead over the next, paired by seed, which both share; None below two
        seeds, and where the seeds change neither.
        """
        best, other = self.best, self.runner_up
        if best is None or other is None or len(self.sweep.seeds) < 2 or self.seeds_change_nothing:
            return None
        key = f"{self.goal.metric.key}.by_seed"
        return t_interval(np.asarray(best[key], dtype=float) - np.asarray(other[key], dtype=float))


def analyse(sweep: Sweep, rows: pd.DataFrame) -> Analysis:
    """From rows as `run_sweep` and `read_sweep` return them."""
    settings = setting_means(sweep, rows)
    goal = sweep.goal
    possible = settings[settings["keeps"] & settings[goal.metric.key].notna()]
    ranked = possible.sort_values(goal.metric.key, ascending=not goal.maximize, kind="stable")
    counted = Counter(
        (str(status), str(reason))
        for status, reason in zip(rows["status"], rows["reason"], strict=True)
        if status in (INFEASIBLE, FAILED)
    )
    return Analysis(
        sweep,
        settings,
        ranked,
        pareto_front(settings, *goal.pareto),
        effects(sweep, settings, goal.metric.key),
        {str(status): int(count) for status, count in rows["status"].value_counts().items()},
        [(status, reason, count) for (status, reason), count in counted.most_common()],
    )


def setting_means(sweep: Sweep, rows: pd.DataFrame) -> pd.DataFrame:
    """A row a setting all of whose seeds are ok, in order: its number as index, the axes, the mean over seeds of every
    value, `first` (index of its first point), `grade`, `bottleneck` (of its first seed), `keeps` (every limit, by its
    mean) and `breach` (the worst breach as a share of its limit); of goal and limits `KEY.by_seed` and, with two seeds
    or more, `KEY.t_low`, `KEY.t_high` (t-interval of the mean).
    """
    seeds = len(sweep.seeds)
    ok = rows[rows["status"] == OK]
    number = ok["index"].to_numpy() // seeds
    complete = pd.Series(number).value_counts()
    wanted = np.isin(number, complete[complete == seeds].index.to_numpy())
    ok, number = ok[wanted], number[wanted]
    first = ok[number * seeds == ok["index"].to_numpy()]
    frame = first[[*sweep.keys, "grade", "bottleneck"]].copy()
    frame.index = pd.Index(first["index"].to_numpy() // seeds, name="setting")
    columns = list(sweep.columns)
    values = ok[columns].to_numpy(dtype=float).reshape(-1, seeds, len(columns))
    means = pd.DataFrame(values.mean(axis=1), index=frame.index, columns=columns)
    extra: dict[str, Any] = {"first": first["index"].to_numpy()}
    goal = sweep.goal
    for key in dict.fromkeys([goal.metric.key, *(limit.metric.key for limit in goal.limits)]):
        by_seed = values[:, :, columns.index(key)]
        extra[f"{key}.by_seed"] = list(by_seed)
        if seeds > 1:
            ends = [t_interval(one) for one in by_seed]
            extra[f"{key}.t_low"] = [low for low, _ in ends]
            extra[f"{key}.t_high"] = [high for _, high in ends]
    breach = np.zeros(len(means))
    for limit in goal.limits:
        breach = np.maximum(breach, [limit.excess(value) for value in means[limit.metric.key]])
    keeps = np.ones(len(means), dtype=bool)
    for limit in goal.limits:
        keeps &= np.asarray([limit.keeps(value) for value in means[limit.metric.key]], dtype=bool)
    extra |= {"keeps": keeps, "breach": breach}
    everything: pd.DataFrame = pd.concat([frame, means, pd.DataFrame(extra, index=frame.index)], axis=1)
    return everything


def t_interval(values: Floats) -> tuple[float, float]:
    """Of the mean of independent draws, at CONFIDENCE: mean +- t(n - 1) x s / sqrt(n); n of two at least."""
    half = float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return mean - half, mean + half


def varies(setting: pd.Series, metric: Metric) -> bool:
    """Does a metric of the goal or of a limit differ from seed to seed?"""
    by_seed = np.asarray(setting[f"{metric.key}.by_seed"], dtype=float)
    return bool(by_seed.min() < by_seed.max())


def bars(setting: pd.Series, metric: Metric) -> tuple[float, float]:
    """90 % interval of a metric of a setting; the value itself where a run has none."""
    value = float(setting[metric.key])
    if metric.key not in WITH_INTERVAL:
        return value, value
    low, high = float(setting[f"{metric.key}.low"]), float(setting[f"{metric.key}.high"])
    return (value, value) if math.isnan(low) else (low, high)


def pareto_front(settings: pd.DataFrame, first: Metric, second: Metric) -> pd.DataFrame:
    """Settings that none beats in one metric without losing in the other, from the best of the first on.

    Equal ones count once. Sorting by the first leaves those that improve on all before them in the second (Kung,
    Luccio and Preparata, Journal of the ACM 22, 1975).
    """
    known = settings[settings[first.key].notna() & settings[second.key].notna()]
    signs = [1.0 if metric.larger_is_better else -1.0 for metric in (first, second)]
    one, two = (sign * known[m.key].to_numpy(dtype=float) for sign, m in zip(signs, (first, second), strict=True))
    order = np.lexsort((-two, -one))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(two[order])[:-1]])
    front: pd.DataFrame = known.iloc[order[two[order] > best_before]]
    return front
