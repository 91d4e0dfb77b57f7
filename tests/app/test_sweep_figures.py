import math
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from app.sweep_figures import categories, figures, heat_map, main_effects, pareto_plot
from app.sweep_page import html_report
from app.sweep_report import report_lines
from sim.sweep.analysis import Analysis, analyse
from sim.sweep.columns import VALUE_COLUMNS
from sim.sweep.definition import make_sweep

TABLES: dict[str, Any] = {
    "schema": 1,
    "name": "A & B <i>",
    "scenario": {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023", "duration_s": 5},
    },
    "axes": {"serving.max_num_seqs": [8, 16, 32], "serving.scheduler": [{"name": "orca"}, {"name": "sarathi"}]},
    "goal": {"maximize": "output_tokens_per_s_per_gpu", "subject_to": ["ttft_s.p99 <= 250ms"]},
}


def analysis(status: str = "ok", *, same: bool = False) -> Analysis:
    sweep = make_sweep(TABLES, Path("x.toml"))
    rows = []
    for number in range(6):
        size, scheduler = [8, 16, 32][number // 2], ["orca", "sarathi"][number % 2]
        row: dict[str, Any] = {"index": number, "point_id": str(number), "seed": 0, "serving.max_num_seqs": size}
        row |= {"serving.scheduler": f'{{ name = "{scheduler}" }}', "status": status, "reason": "why <not>"}
        row |= {"grade": "measured", "bottleneck": "Memory: ...", **dict.fromkeys(VALUE_COLUMNS, math.nan)}
        if status == "ok":
            speed = 5.0 if same else 100.0 * size + number % 2
            row |= {"output_tokens_per_s_per_gpu": speed, "output_tokens_per_s_per_user": 1e4 / speed}
            row |= {"ttft_s.p99": 0.01 * size, "output_tokens_per_s_per_gpu.low": 0.9 * speed}
            row |= {"output_tokens_per_s_per_gpu.high": 1.1 * speed}
        rows.append(row)
    return analyse(sweep, pd.DataFrame(rows))


def test_equal_seeds_and_lists_are_not_given_a_chance_or_shares() -> None:
    keys = {"serving.max_num_seqs": [8, 16], "serving.block_size": [16, 32]}
    sweep = make_sweep({**TABLES, "axes": keys, "method": "list", "seeds": [1, 2]}, Path("x.toml"))
    rows = [
        {"index": n, "point_id": str(n), "seed": 1 + n % 2, "status": "ok", "reason": "", "grade": "measured"}
        | {key: values[n // 2] for key, values in keys.items()}
        | {"bottleneck": "Memory", **dict.fromkeys(VALUE_COLUMNS, 0.01), "output_tokens_per_s_per_gpu": 1.5 + n // 2}
        for n in range(4)
    ]  # fmt: skip
    text = "\n".join(report_lines(analyse(sweep, pd.DataFrame(rows)), None))
    assert "all 2 seeds give the same; they say nothing of chance" in text
    assert "than chance" not in text
    assert "over seeds" not in text
    assert "no shares of the axes: those of a list move in step" in text


def named(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def test_the_trade_off_shows_every_setting_and_marks_the_best() -> None:
    traces = named(pareto_plot(analysis()))
    assert len(traces["settings"].x) + len(traces["breaking a limit"].x) == 6
    assert len(traces["breaking a limit"].x) == 2  # 320 ms to the first token
    assert list(traces["best by the goal"].y) == [1601.0]
    assert "max_num_seqs = 16" in traces["best by the goal"].text[0]


def test_the_bars_of_the_best_are_its_interval() -> None:
    bars = [trace for trace in pareto_plot(analysis()).data if trace.mode == "lines"]
    assert list(bars[1].y) == pytest.approx([0.9 * 1601.0, 1.1 * 1601.0])


def test_the_heat_map_holds_the_mean_of_each_pair() -> None:
    figure = heat_map(analysis(), "serving.max_num_seqs", "serving.scheduler")
    assert list(figure.data[0].x) == ["8", "16", "32"]
    assert list(figure.data[0].y) == ["orca", "sarathi"]
    assert figure.data[0].z.tolist() == [[800.0, 1600.0, 3200.0], [801.0, 1601.0, 3201.0]]


def test_main_effects_are_means_with_the_strongest_axis_first() -> None:
    figure = main_effects(analysis())
    assert [trace.name for trace in figure.data] == ["serving.max_num_seqs", "serving.scheduler"]
    assert list(figure.data[0].y) == [800.5, 1600.5, 3200.5]
    assert figure.layout.annotations[0].text == "max_num_seqs: 100%"


def test_categories_have_a_ribbon_a_setting() -> None:
    parcats = categories(analysis()).data[0]
    assert [dimension.label for dimension in parcats.dimensions] == ["max_num_seqs", "scheduler"]
    assert len(parcats.dimensions[0]["values"]) == 6


def test_there_are_no_pictures_without_answers() -> None:
    assert figures(analysis("failed")) == {}
    assert len(figures(analysis())) == 4
    assert len(figures(analysis(same=True))) == 1


@pytest.mark.parametrize("one", [analysis(), analysis("failed"), analysis("infeasible"), analysis(same=True)])
def test_page_and_report_are_written_whatever_came_of_it(one: Analysis) -> None:
    page = html_report(one)
    assert page == html_report(one)
    body = page.partition("</head>")[2]
    assert "A &amp; B &lt;i&gt;" in body
    assert "<not>" not in body
    lines = report_lines(one, None)
    assert not any("nan" in line for line in lines)
