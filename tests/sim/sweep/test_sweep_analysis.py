import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sweep.analysis import Analysis, analyse, bars, pareto_front, t_interval
from sim.sweep.columns import SWEEP_METRICS, VALUE_COLUMNS
from sim.sweep.definition import Sweep, make_sweep
from sim.sweep.sensitivity import level_text

GOODPUT, COST = SWEEP_METRICS["request_goodput_per_s"], SWEEP_METRICS["cost_usd"]
SCENARIO = {
    "model": {"config": "llama-3.1-8b"},
    "cluster": {"node": "dgx-h100"},
    "workload": {"trace": "azure-conv-2023", "duration_s": 5},
}


def sweep_of(axes: dict[str, Any], seeds: int = 1, **keys: Any) -> Sweep:
    goal = {"maximize": "request_goodput_per_s"} | keys.pop("goal", {})
    tables = {"schema": 1, "scenario": SCENARIO, "axes": axes, "seeds": list(range(seeds)), "goal": goal, **keys}
    return make_sweep(tables, Path("x.toml"))


def rows_of(
    sweep: Sweep, settings: list[tuple[Any, ...]], goals: list[list[float]], **more: list[float]
) -> pd.DataFrame:
    """Rows as of a sweep: a list of goals by seed for each setting."""
    rows = []
    for number, (setting, by_seed) in enumerate(zip(settings, goals, strict=True)):
        for seed, goal in enumerate(by_seed):
            row: dict[str, Any] = {"index": len(rows), "point_id": str(len(rows)), "seed": seed}
            row |= dict(zip(sweep.keys, setting, strict=True))
            row |= {"status": "ok", "reason": "", "grade": "measured", "bottleneck": "Memory: ..."}
            row |= dict.fromkeys(VALUE_COLUMNS, math.nan)
            row |= {"request_goodput_per_s": goal} | {key: values[number] for key, values in more.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def analysed(goals: list[list[float]], goal: dict[str, Any] | None = None, **more: list[float]) -> Analysis:
    settings = [(number + 1,) for number in range(len(goals))]
    axes = {"serving.max_num_seqs": [setting[0] for setting in settings]}
    sweep = sweep_of(axes, len(goals[0]), goal=goal or {})
    return analyse(sweep, rows_of(sweep, settings, goals, **more))


def test_the_best_setting_is_that_with_the_highest_mean_within_the_limits() -> None:
    found = analysed([[1.0, 3.0], [9.0, 9.0], [4.0, 4.0]], {"subject_to": ["cost_usd <= 5"]}, cost_usd=[1.0, 6.0, 5.0])
    assert [row["serving.max_num_seqs"] for _, row in found.ranked.iterrows()] == [3, 1]
    assert found.best is not None
    assert found.best["request_goodput_per_s"] == 4.0
    assert found.best["first"] == 4


def test_a_goal_may_be_small() -> None:
    found = analysed([[3.0], [1.0], [2.0]], {"maximize": None, "minimize": "request_goodput_per_s"})
    assert found.best is not None
    assert found.best["serving.max_num_seqs"] == 2


def test_where_none_keeps_the_limits_the_nearest_is_named() -> None:
    goal = {"subject_to": ["cost_usd <= 1", "request_goodput_per_s >= 10"]}
    found = analysed([[9.0], [5.0], [20.0]], goal, cost_usd=[1.5, 1.0, 9.0])
    assert found.best is None
    assert found.runner_up is None
    assert not found.too_close()
    assert found.nearest is not None
    assert found.nearest["serving.max_num_seqs"] in (1, 2)
    assert found.settings["breach"].tolist() == [0.5, 0.5, 8.0]


def test_a_setting_with_a_seed_that_failed_has_no_mean() -> None:
    sweep = sweep_of({"serving.max_num_seqs": [1, 2]}, seeds=2)
    rows = rows_of(sweep, [(1,), (2,)], [[1.0, 2.0], [8.0, 9.0]])
    rows.loc[2, ["status", "reason"]] = ["failed", "why"]
    found = analyse(sweep, rows)
    assert list(found.settings.index) == [0]
    assert found.statuses == {"ok": 3, "failed": 1}
    assert found.reasons == [("failed", "why", 1)]


@pytest.mark.parametrize(("second", "close"), [((8.0, 9.5), True), ((8.0, 8.9), False)])
def test_two_settings_whose_intervals_meet_are_too_close_to_call(second: tuple[float, float], close: bool) -> None:
    low, high = "request_goodput_per_s.low", "request_goodput_per_s.high"
    found = analysed([[10.0], [8.5]], **{low: [9.0, second[0]], high: [11.0, second[1]]})
    assert found.too_close() is close
    assert bars(found.settings.iloc[0], GOODPUT) == (9.0, 11.0)


def test_ties_are_counted() -> None:
    assert analysed([[2.0], [2.0], [1.0], [2.0 + 1e-12]]).ties == 3


def test_a_lead_is_paired_by_seed() -> None:
    steady = analysed([[10.0, 20.0, 30.0], [9.0, 19.1, 28.9]]).by_chance()
    assert steady is not None
    assert steady[0] > 0.8
    chance = analysed([[10.0, 20.0, 30.0], [12.0, 12.0, 33.0]]).by_chance()
    assert chance is not None
    assert chance[0] < 0 < chance[1]
    assert analysed([[10.0], [9.0]]).by_chance() is None


def test_seeds_that_change_nothing_say_nothing_of_a_lead() -> None:
    found = analysed([[0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2], [0.1, 0.1, 0.1]])
    assert found.seeds_change_nothing
    assert found.by_chance() is None
    varied = analysed([[0.3, 0.3, 0.3], [0.1, 0.1, 0.2]])
    assert not varied.seeds_change_nothing
    assert varied.by_chance() is not None
    assert not analysed([[2.0], [1.0]]).seeds_change_nothing


def test_the_t_interval_is_that_of_the_tables() -> None:
    low, high = t_interval(np.asarray([1.0, 2.0, 3.0, 4.0]))
    assert (low + high) / 2 == 2.5
    assert (high - low) / 2 == pytest.approx(2.3534 * np.std([1, 2, 3, 4], ddof=1) / 2, rel=1e-4)  # t(0.95, 3)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
    st.sampled_from(
        [("request_goodput_per_s", "mfu"), ("request_goodput_per_s", "cost_usd"), ("cost_usd", "e2e_s.p99")]
    ),
)
def test_the_front_is_what_brute_force_says(values: list[tuple[int, int]], keys: tuple[str, str]) -> None:
    one, two = (SWEEP_METRICS[key] for key in keys)
    frame = pd.DataFrame(values, columns=list(keys), dtype=float)
    signs = np.asarray([1.0 if metric.larger_is_better else -1.0 for metric in (one, two)])
    scores = [tuple(score) for score in frame.to_numpy() * signs]
    wanted = {a for a in scores if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in scores)}
    front = pareto_front(frame, one, two)
    assert sorted(tuple(score) for score in front.to_numpy() * signs) == sorted(wanted)
    assert len(front) == len(wanted)


def test_points_without_a_metric_are_on_no_front() -> None:
    frame = pd.DataFrame({"request_goodput_per_s": [1.0, math.nan], "cost_usd": [math.nan, 1.0]})
    assert pareto_front(frame, GOODPUT, COST).empty


def test_shares_of_a_sum_on_a_grid_are_its_terms_variances() -> None:
    first, second, third = [1, 2, 3, 4], [0.5, 1.0, 2.0], [7, 8]
    axes = {"serving.max_num_seqs": first, "workload.rate_scale": second, "serving.replicas": third}
    sweep = sweep_of(axes)
    settings = [(a, b, c) for a in first for b in second for c in third]
    found = analyse(sweep, rows_of(sweep, settings, [[10 * a + 3 * b] for a, b, _ in settings])).effects
    total = 100 * np.var(first) + 9 * np.var(second)
    assert [effect.key for effect in found] == ["serving.max_num_seqs", "workload.rate_scale", "serving.replicas"]
    shares = [effect.share for effect in found]
    assert shares == pytest.approx([100 * np.var(first) / total, 9 * np.var(second) / total, 0.0], abs=1e-12)
    assert found[0].means == pytest.approx([10 * a + 3.5 for a in first])
    assert found[0].counts == (6, 6, 6, 6)
    assert found[0].levels == ("1", "2", "3", "4")


def test_an_interaction_is_nobody_s_share() -> None:
    sweep = sweep_of({"serving.max_num_seqs": [1, 2], "serving.replicas": [1, 2]})
    settings = [(1, 1), (1, 2), (2, 1), (2, 2)]
    found = analyse(sweep, rows_of(sweep, settings, [[1.0], [0.0], [0.0], [1.0]])).effects
    assert [effect.share for effect in found] == [0.0, 0.0]


def test_shares_of_a_sample_come_near_and_noise_has_none() -> None:
    axes = {"slo.ttft_s": {"low": 1.0, "high": 2.0}, "slo.tbt_s": {"low": 1.0, "high": 2.0}}
    sweep = sweep_of(axes, method="lhs", samples=400)
    draws = np.random.default_rng(0).random((400, 2)) + 1
    found = analyse(sweep, rows_of(sweep, [tuple(row) for row in draws], [[a] for a, _ in draws])).effects
    assert found[0].key == "slo.ttft_s"
    assert found[0].share == pytest.approx(1.0, abs=0.05)  # a bin of six holds a thirty-sixth of the variance
    assert found[1].share < 0.02
    assert sum(found[0].counts) == 400


def test_a_list_has_no_shares_as_its_axes_move_in_step() -> None:
    axes = {"serving.max_num_seqs": [1, 2, 3], "serving.block_size": [8, 16, 32]}
    sweep = sweep_of(axes, method="list")
    settings = list(zip(*axes.values(), strict=True))
    assert analyse(sweep, rows_of(sweep, settings, [[1.0], [2.0], [4.0]])).effects == []


def test_a_goal_that_does_not_vary_has_no_effects() -> None:
    assert analysed([[2.0], [2.0]]).effects == []


def test_rows_without_an_answer_are_no_mistake() -> None:
    sweep = sweep_of({"serving.max_num_seqs": [1, 2]})
    rows = rows_of(sweep, [(1,), (2,)], [[1.0], [2.0]])
    rows["status"] = "infeasible"
    found = analyse(sweep, rows)
    assert found.best is None
    assert found.nearest is None
    assert found.effects == []
    assert found.front.empty
    assert analyse(sweep, rows.iloc[:0]).statuses == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64, "64"),
        (True, "true"),
        (0.25, "0.25"),
        (12345.0, "12345"),
        ("fp8", "fp8"),
        ({"name": "orca"}, "orca"),
        ('{ name = "orca", reservation = "max" }', '{ name = "orca", reservation = "max" }'),
    ],
)
def test_values_of_axes_are_short_in_reports(value: object, text: str) -> None:
    assert level_text(value) == text
