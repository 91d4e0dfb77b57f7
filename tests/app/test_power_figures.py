"""The picture of a row shows what a training in it draws, and says how far its clock went down."""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.console import power_lines
from app.power_figures import row_over_time
from sim.power_section import PowerSection

READING = {"id": 0, "low_clock_mhz": np.nan, "high_clock_mhz": np.nan, "brake": False}
TRAINING = {
    "nodes": 2, "steps": 7.5, "tokens_per_s": 900.0, "lost_fraction": 0.125, "slowed_s": 4.0,
    "lowest_clock_mhz": 705.0, "own_clock_mhz": 1310.0,
}  # fmt: skip


def test_the_training_share_of_a_row_lies_below_its_watts() -> None:
    times = {"t_s": [2.0, 4.0], "training_clock_mhz": [1310.0, 705.0]}
    power = pd.concat(
        pd.DataFrame(times | READING | {"scope": scope, "watts": watts})
        for scope, watts in (("row", [9e3, 8e3]), ("training", [4e3, 3e3]))
    )
    requests = pd.DataFrame({"priority": [], "e2e_s": [], "arrival_s": []})
    section = PowerSection(row_limit_w=1e4)
    figure = row_over_time(power, requests, {"row_limit_w": 1e4}, section)
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn == {"row": [9.0, 8.0], "of it training, 705 to 1,310 MHz": [4.0, 3.0]}
    alone = row_over_time(power[power["scope"] == "row"], requests, {"row_limit_w": 1e4}, section)
    assert [trace.name for trace in alone.data] == ["row"]


def test_the_console_says_what_a_training_lost() -> None:
    row_w = dict.fromkeys(("mean", "p99", "peak_1_min", "max"), 9e3)
    figures = dict.fromkeys(("row_peak_fraction", "over_limit_s"), 0.5)
    counts = dict.fromkeys(("brakes", "breaker_trips", "low_priority_locked_s", "high_priority_locked_s"), 0)
    entry = {"row_w": row_w, "row_limit_w": 1e4, "by_priority": {}, **figures, **counts}
    assert "training: 2 servers, 7.5 steps, 900 tokens/s, 12.5% lost" in power_lines(entry | {"training": TRAINING})[-1]
    assert not any("training" in line for line in power_lines(entry))
