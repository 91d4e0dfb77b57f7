import numpy as np
import pandas as pd
import pytest

from app.timeline import LANES, MAX_BARS, first_window, steps_between, timeline


def steps(runs: int, iterations: int = 1, lanes: int = 1, replicas: int = 1) -> pd.DataFrame:
    """Runs of steps of a millisecond each, one after the other on every lane."""
    rows = [
        {
            "replica": replica, "lane": lane, "start_s": 1e-3 * iterations * run, "duration_s": 1e-3 * iterations,
            "first_s": 1e-3, "slope_s": 0.0, "iterations": iterations, "prefill_tokens": 10 * (run % 3),
            "decode_seqs": run % 2, "context_tokens": 7, "kv_blocks": 1, "waiting": 0, "bound_by": "memory",
        }
        for replica in range(replicas) for lane in range(lanes) for run in range(runs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_window_holds_what_overlaps_it_step_by_step() -> None:
    inside = steps_between(steps(10, iterations=5), 0.0121, 0.0139)
    np.testing.assert_allclose(inside["start_s"], [0.012, 0.013])
    assert set(inside["iterations"]) == {1}


def test_many_steps_stay_runs() -> None:
    inside = steps_between(steps(10, iterations=MAX_BARS), 0.0, 1e9)
    assert len(inside) == 10
    assert set(inside["iterations"]) == {MAX_BARS}


def test_bars_are_coloured_by_what_a_step_did() -> None:
    figure, left_out = timeline(steps(12), 0.0, 1.0)
    assert left_out == ""
    counts = {trace.name: len(trace.x) for trace in figure.data}
    assert counts == {"prefill": 4, "decode": 6, "mixed": 4} | {"decode": 4}
    assert figure.layout.xaxis.range == (0.0, 1.0)


def test_what_is_not_drawn_is_said() -> None:
    figure, left_out = timeline(steps(MAX_BARS + 500), 0.0, 1e3)
    assert sum(len(trace.x) for trace in figure.data) == MAX_BARS
    assert f"the first {MAX_BARS:,} of {MAX_BARS + 500:,} runs of steps" in left_out
    figure, left_out = timeline(steps(2, replicas=LANES + 6), 0.0, 1.0)
    assert f"the first {LANES} of {LANES + 6} rows" in left_out


def test_lanes_have_rows_of_their_own() -> None:
    figure, _ = timeline(steps(2, lanes=2, replicas=2), 0.0, 1.0)
    rows = {row for trace in figure.data for row in trace.y}
    assert rows == {f"replica {replica}, micro-batch {lane}" for replica in range(2) for lane in range(2)}


def test_an_empty_window_says_so() -> None:
    figure, _ = timeline(steps(3), 5.0, 6.0)
    assert figure.layout.annotations[0].text == "no step in this window"


@pytest.mark.parametrize("runs", [1, 3, 1000])
def test_the_first_window_begins_at_the_start_and_holds_something(runs: int) -> None:
    start, width = first_window(steps(runs))
    assert start == 0.0
    assert 0 < width <= 0.2
    assert len(steps_between(steps(runs), start, start + width)) >= min(runs, 100)
    assert first_window(steps(1).iloc[:0]) == (0.0, 1.0)
