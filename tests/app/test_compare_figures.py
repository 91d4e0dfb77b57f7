import numpy as np
import pandas as pd

from app.compare_figures import COLOURS, compared_cdfs


def requests(scale: float) -> pd.DataFrame:
    return pd.DataFrame({"ttft_s": scale * np.arange(1, 101), "max_tbt_s": np.nan})


def test_each_run_has_a_curve_to_all_of_its_requests() -> None:
    figure = compared_cdfs({"A": requests(0.01), "B": requests(0.02)}, "ttft_s", {0.5: "SLO"})
    assert [trace.name for trace in figure.data] == ["A", "B"]
    assert [trace.y[-1] for trace in figure.data] == [1.0, 1.0]
    assert figure.data[1].x[-1] == 2 * figure.data[0].x[-1]
    assert figure.layout.annotations[0].text == "SLO 500 ms"


def test_more_runs_than_colours_are_told_apart_by_dashes() -> None:
    figure = compared_cdfs({str(i): requests(1.0) for i in range(8)}, "ttft_s", {})
    looks = {(trace.line.color, trace.line.dash) for trace in figure.data}
    assert len(looks) == 8 > len(COLOURS)


def test_runs_without_such_a_latency_say_so() -> None:
    figure = compared_cdfs({"A": requests(1.0)}, "max_tbt_s", {})
    assert figure.layout.annotations[0].text == "no request has a longest TBT"
