"""Pictures and pages of plans, from the JSON that they are stored as."""

import pytest

from app.plan_figures import candidate_frame, plan_figures
from app.plan_report import plan_report


def row(name, status, usd, worst):
    limits = {} if worst is None else {"ttft_s": {"limit": 2.0, "reached": 2.0 * worst, "at_least": False}}
    return {
        "candidate": name, "status": status, "node": name, "nodes": 2, "gpus": 4, "usd_per_h": usd, "limits": limits,
        "mean_power_w": None, "energy_usd_per_day": None, "least_nodes": 1, "reason": f"<b>{name}</b>",
    }  # fmt: skip


DEPLOYMENT = {
    "question": "deployment", "name": "a <plan>", "found": True, "rate_per_s": 3.0, "simulations": 4, "untried": 0,
    "slo": {"ttft_s": 2.0, "percentile": 99.0}, "notes": ["a note"], "prices": ["a price"],
    "candidates": [
        row("best", "winner", 2.0, 0.5), row("other", "misses", 1.0, 1.5), row("far", "dearer", 9.0, None),
        row("free", "misses", None, 1.2),
    ],
}  # fmt: skip
CAPACITY = {
    "question": "capacity", "name": "rate", "found": True, "rate_per_s": 8.0, "interval_per_s": [7.5, 8.5],
    "confidence": 0.95, "safe_per_s": 6.0, "hopeful_per_s": None, "proved_per_s": 12.0, "simulations": 20,
    "seeds": [
        {"seed": 1, "kept_per_s": 7.9, "broken_per_s": 8.1}, {"seed": 2, "kept_per_s": 8.0, "broken_per_s": None},
    ],
    "slo": {"percentile": 99.0}, "notes": [],
}  # fmt: skip
FLEET = {
    "usd": 100.0, "bound_usd": 100.0, "relaxed_usd": 90.0, "running": {"a": [1, 2]},
    "capacity_per_s": {"a": [5.0, 4.0]},
}  # fmt: skip
DAY = {
    "question": "day", "name": "day", "found": True, "slo": {"percentile": 99.0}, "demand_per_s": [4.0, 9.0],
    "demand_source": "test", "fleet": FLEET, "single": FLEET, "static": None, "types": [], "left_out": {"b": "why"},
    "derated": [], "hours": [], "hours_planned": 2, "energy_kwh": None, "notes": [], "prices": [],
}  # fmt: skip


def test_only_simulated_candidates_with_a_price_are_drawn():
    frame = candidate_frame(DEPLOYMENT["candidates"])
    assert frame["candidate"].tolist() == ["best", "other"]
    assert frame["worst"].tolist() == [0.5, 1.5]
    figure = plan_figures(DEPLOYMENT)["Price, and how near the limits"]
    assert {trace.name: list(trace.x) for trace in figure.data} == {
        "the answer": [2.0], "meets the SLO": [], "misses it": [1.0],
    }  # fmt: skip


def test_seeds_that_nothing_broke_are_not_drawn():
    figure = plan_figures(CAPACITY)["Highest rate of each seed"]
    assert list(figure.data[0].y) == [pytest.approx(8.0)]
    assert len(figure.layout.shapes) == 4  # the interval, the mean, the safe and the proved rate


def test_capacity_is_stacked_under_the_demand():
    figures = plan_figures(DAY)
    assert list(figures) == ["Capacity that runs, and demand"]
    bars, line = figures["Capacity that runs, and demand"].data
    assert list(bars.y) == [5.0, 8.0]
    assert list(line.y) == [4.0, 9.0]


@pytest.mark.parametrize("found", [DEPLOYMENT, CAPACITY, DAY])
def test_pages_are_whole_and_escape_what_they_are_told(found):
    page = plan_report(found)
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert "<b>best</b>" not in page
    assert page == plan_report(found)
    assert "<h1>a &lt;plan&gt;: deployment</h1>" in page or found is not DEPLOYMENT


def test_a_plan_without_an_answer_has_a_page():
    for found in (DEPLOYMENT, CAPACITY, DAY):
        page = plan_report({**found, "found": False, "rate_per_s": None})
        assert "class=missed" in page
