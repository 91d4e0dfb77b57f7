import pandas as pd
import pytest
from training_step import step

from app import training_timeline
from app.training_timeline import (
    KINDS,
    OTHER,
    drawable,
    first_window,
    kind_of,
    pipeline_ends,
    pipeline_timeline,
)


def tasks(rows: list[tuple[int, str, str, float, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["device", "stream", "kind", "start_s", "end_s"])
    return frame.assign(name=frame["kind"] + " 0", task=range(len(frame)))


def drawn(figure) -> int:  # type: ignore[no-untyped-def]
    return sum(len(trace.x) for trace in figure.data)


def test_a_bar_is_a_task_and_a_trace_a_kind() -> None:
    result = step()
    shown = drawable(result.tasks, compute_only=True)
    figure, left_out = pipeline_timeline(result.tasks, 0.0, result.summary["step_s"])
    assert drawn(figure) == len(shown)
    assert left_out == ""
    assert len(figure.data) == len({trace.name for trace in figure.data}) == len(set(kind_of(shown)))
    assert not figure.layout.shapes
    for trace in figure.data:
        assert trace.marker.color == KINDS[trace.name]


def test_bars_stand_where_and_as_long_as_their_tasks_do() -> None:
    frame = tasks([(0, "compute", "forward", 0.0, 1.0), (1, "compute", "forward", 1.5, 2.0)])
    bar = pipeline_timeline(frame, 0.0, 2.0)[0].data[0]
    assert (list(bar.base), list(bar.x), list(bar.y)) == ([0.0, 1.5], [1.0, 0.5], ["stage 0", "stage 1"])


def test_streams_beside_compute_have_rows_of_their_own_below_it() -> None:
    frame = tasks(
        [(0, "send forward", "send forward", 1.0, 1.1), (0, "compute", "forward", 0.0, 1.0),
         (1, "compute", "backward", 1.1, 2.0)]
    )  # fmt: skip
    figure, _ = pipeline_timeline(frame, 0.0, 2.0, compute_only=False)
    assert list(figure.layout.yaxis.categoryarray) == ["stage 1 compute", "stage 0 send forward", "stage 0 compute"]
    assert {trace.name for trace in figure.data} == {"forward", "backward", "send"}


def test_every_kind_of_a_zero_bubble_schedule_has_its_colour_and_an_unknown_one_a_grey() -> None:
    kinds = ["forward", "backward_input", "backward_weight", "param gather", "optimizer", "what comes later"]
    frame = tasks([(0, "compute", kind, float(at), at + 1.0) for at, kind in enumerate(kinds)])
    names = [trace.name for trace in pipeline_timeline(frame, 0.0, 6.0)[0].data]
    assert set(names) == {"forward", "backward of inputs", "backward of weights", "exchange between copies",
                          "optimizer", OTHER}  # fmt: skip


def test_what_a_browser_cannot_take_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_timeline, "MAX_BARS", 10)
    monkeypatch.setattr(training_timeline, "MOST_ROWS", 2)
    rows = [
        (stage, "compute", "forward", at + stage / 10, at + stage / 10 + 0.1) for at in range(20) for stage in (0, 1, 2)
    ]
    figure, left_out = pipeline_timeline(tasks(rows), 0.0, 30.0)
    assert drawn(figure) == 10
    assert left_out == "the first 2 of 3 rows, the first 10 of 40 tasks"
    assert figure.layout.xaxis.range[1] < 30.0


def test_an_empty_window_says_so() -> None:
    figure, left_out = pipeline_timeline(step().tasks, 1e6, 2e6)
    assert figure.layout.annotations[0].text == "no task in this window"
    assert left_out == ""


def test_the_first_window_is_a_short_step_as_a_whole_and_of_a_long_one_what_can_be_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = tasks([(0, "compute", "forward", float(at), at + 1.0) for at in range(100)])
    assert first_window(frame) == 100.0
    monkeypatch.setattr(training_timeline, "LEGIBLE", 30)
    assert first_window(frame) == 30.0
    monkeypatch.setattr(training_timeline, "MAX_BARS", 20)
    assert first_window(frame) == 20.0


def test_a_long_step_is_drawn_at_its_beginning_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = tasks([(0, "compute", "forward", float(at), at + 1.0) for at in range(100)])
    whole, title = pipeline_ends(frame, 100.0)
    assert (title, drawn(whole), len(whole.data)) == ("Pipeline", 100, 1)
    monkeypatch.setattr(training_timeline, "LEGIBLE", 30)
    ends, title = pipeline_ends(frame, 100.0)
    assert title == "Pipeline, beginning and end of the step"
    assert (tuple(ends.layout.xaxis.range), tuple(ends.layout.xaxis2.range)) == ((0.0, 15.0), (85.0, 100.0))
    assert drawn(ends) == 30
    assert [trace.showlegend for trace in ends.data] == [True, False]
