import numpy as np
import pandas as pd
import pytest
from training_step import plan, step

from app.training_figures import (
    LEAST_SHARE,
    SHARES,
    held_over_time,
    memory_over_time,
    owner_colours,
    peak_by_stage,
    stage_peaks,
    stage_time,
    step_shares,
    step_times,
    training_figures,
)
from sim.training.result import run_training


def test_every_picture_of_a_report_has_something_in_it() -> None:
    pictures = training_figures(step())
    assert next(iter(pictures)) == "Where the step goes"
    assert len(pictures) == 6
    assert list(pictures)[-1] == "Power over 4 steps"
    assert all(picture.data for picture in pictures.values())


def test_shares_of_the_step_are_stacked_to_all_of_it() -> None:
    figure = step_shares({"": step().summary})
    assert sum(bar.x[0] for bar in figure.data) == pytest.approx(1.0, abs=LEAST_SHARE * len(SHARES))
    assert figure.data[0].name.startswith("arithmetic ")
    assert figure.layout.barmode == "stack"


def test_shares_of_several_runs_have_a_row_each_and_no_percentage_in_the_legend() -> None:
    figure = step_shares({"one": step().summary, "two": step().summary})
    assert list(figure.data[0].y) == ["one", "two"]
    assert figure.data[0].name == "arithmetic"


def test_steps_of_several_runs_have_their_intervals_as_error_bars() -> None:
    other = run_training(plan(global_batch_size=128)).summary
    bar = step_times({"one": step().summary, "two": other}).data[0]
    for number, summary in enumerate((step().summary, other)):
        low, high = summary["interval_90"]["step_s"]
        assert bar.x[number] == summary["step_s"]
        assert bar.x[number] - bar.error_x.arrayminus[number] == pytest.approx(low)
        assert bar.x[number] + bar.error_x.array[number] == pytest.approx(high)


def test_each_stage_s_tasks_and_waiting_make_up_the_step() -> None:
    result = step()
    figure = stage_time(result.tasks, result.summary["step_s"])
    total = np.sum([np.asarray(bar.x, dtype=float) for bar in figure.data], axis=0)
    assert total == pytest.approx(1.0, abs=5e-3)
    assert list(figure.data[0].y) == ["stage 0", "stage 1", "stage 2", "stage 3"]
    waiting = next(bar for bar in figure.data if bar.name == "waiting")
    assert np.mean(waiting.x) == pytest.approx(result.summary["bound_by"]["idle_fraction"], abs=1e-9)


def test_nothing_is_said_where_nothing_ran() -> None:
    result = step()
    none = result.tasks.head(0)
    assert stage_time(none, 1.0).layout.annotations[0].text == "nothing ran"
    assert memory_over_time(result.memory.head(0), 0, 1e9, 1.0).layout.annotations[0].text == "no memory is tracked"
    assert peak_by_stage(result.memory.head(0), 1e9).layout.annotations[0].text == "no memory is tracked"


def test_peaks_by_stage_are_those_of_the_summary() -> None:
    result = step()
    peaks = stage_peaks(result.memory)
    assert peaks.sum(axis=1).tolist() == pytest.approx(result.summary["memory"]["stage_peak_bytes"])
    worst = result.summary["memory"]
    assert peaks.loc[worst["stage"]].to_dict() == pytest.approx(
        {owner: worst["owners"].get(owner, 0.0) for owner in peaks.columns}
    )


def test_memory_over_time_is_stacked_by_owner_below_a_line_of_what_tensors_may_take() -> None:
    result = step()
    use = result.summary["memory"]
    figure = memory_over_time(result.memory, use["stage"], use["budget_bytes"], result.summary["step_s"])
    assert {trace.stackgroup for trace in figure.data} == {"held"}
    assert {trace.line.shape for trace in figure.data} == {"hv"}
    top = np.sum([np.asarray(trace.y) for trace in figure.data], axis=0).max()
    assert top == pytest.approx(use["peak_bytes"] / 1e9)
    assert figure.layout.shapes[0].y0 == pytest.approx(use["budget_bytes"] / 1e9)
    assert figure.layout.yaxis.range[1] > use["budget_bytes"] / 1e9


def test_a_long_profile_is_thinned_without_losing_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.figures.MAX_POINTS", 10)
    rows = 1000
    memory = pd.DataFrame(
        {"device": 0, "pool": "hbm", "t_s": np.arange(rows, dtype=float), "owner": "activations", "used_bytes": 1e9}
    )
    memory.loc[537, "used_bytes"] = 7e9
    figure = memory_over_time(memory, 0, 8e9, float(rows))
    assert len(figure.data[0].x) < 40
    assert max(figure.data[0].y) == pytest.approx(7.0)


def test_what_an_owner_holds_lasts_until_it_changes() -> None:
    memory = pd.DataFrame(
        {"device": [0, 0, 0, 1], "pool": "hbm", "t_s": [0.0, 1.0, 2.0, 0.0], "owner": ["a", "b", "b", "a"],
         "used_bytes": [5.0, 2.0, 0.0, 9.0]}
    )  # fmt: skip
    held = held_over_time(memory, 0)
    assert held.sum(axis=1).to_dict() == {0.0: 5.0, 1.0: 7.0, 2.0: 5.0}


def test_every_owner_has_a_colour_of_its_own() -> None:
    colours = owner_colours(["workspace", "weights", "spilled", "working"])
    assert list(colours) == ["weights", "working", "workspace", "spilled"]
    assert len(set(colours.values())) == 4
