"""The picture of replicas that come and go, and the line about them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from app.console import scaler_line
from app.scaled_figures import scaled_over_time


def test_gpus_are_stacked_by_tensor_parallelism_above_watts_and_clock() -> None:
    times = {"t_s": [10.0, 20.0], "watts": [4e3, 2e3], "clock_mhz": [1980.0, 990.0]}
    parts = (
        ("cluster", 0, [8.0, 4.0]),
        ("tensor_parallel_size", 4, [8.0, 4.0]),
        ("tensor_parallel_size", 2, [0.0, 0.0]),
    )
    power = pd.concat(
        pd.DataFrame(times | {"scope": scope, "id": size, "gpus_held": held}) for scope, size, held in parts
    )
    figure = scaled_over_time(power)
    assert [trace.name for trace in figure.data][:1] == ["TP4"]  # of TP2 there was none
    assert [list(trace.y) for trace in figure.data] == [[8.0, 4.0], [4.0, 2.0], [1980.0, 990.0]]
    long = power.loc[power["gpus_held"] > 0.0].sort_values("t_s").iloc[np.arange(4).repeat(2500)]
    assert max(len(trace.x) for trace in scaled_over_time(long).data) <= 2000
    assert np.isfinite(scaled_over_time(long).data[0].y).all()


def test_the_console_says_how_many_served_and_who_waited() -> None:
    found = {
        "replicas_serving": 2.5, "gpus_held": 10.0, "held_fraction": 0.625, "requests_held": 3, "starts": 4,
        "reshards": 1,
        "gpu_h_by_tensor_parallel_size": {"2": 0.0, "4": 1.5},
    }  # fmt: skip
    line = scaler_line(found)
    assert "2.5 serve on average, on 10 GPUs (62%); 3 requests waited" in line
    assert line.endswith("GPU-hours: TP4 1.5")
