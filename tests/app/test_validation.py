"""The shipped results of studies, and results as files and tables."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from app.validation import SHIPPED, Validation, frame_of, overview, read_validation, record, rows_in
from hardware_models.errors import FleetcastError
from sim.study import Row, load_study, run_study, study_names

ROW = Row("serving/vllm-over-orca", "vLLM", "capacity_per_s", "1/s", 1.0, 2.0, 3.0, math.nan, math.nan, "", False)
RANGE = dataclasses.replace(ROW, point="a ratio", published_low=2.5, published_high=4.0, assumed={"a.b": [1, "x"]})


def test_the_shipped_results_hold_every_point_of_every_study_with_its_published_figure() -> None:
    rows = read_validation().rows
    points = [(name, point) for name in study_names() for point in load_study(name).point]
    missing = {(name, point.name) for name, point in points} - {(row.study, row.point) for row in rows}
    assert not missing, "run `make validation`"
    assert len(rows) == len(points)
    published = {(row.study, row.point): (row.published_low, row.published_high) for row in rows}
    for name, point in points:
        said = point.published if isinstance(point.published, list) else [point.published or math.nan]
        assert published[name, point.name] == pytest.approx((min(said), max(said)), nan_ok=True), (
            "run `make validation`"
        )


def test_the_shipped_results_are_finite_and_dated() -> None:
    shipped = read_validation()
    assert len(shipped.date) == len("2026-01-01")
    assert len(shipped.simulator) == 16
    assert all(0 < row.low <= row.simulated <= row.high < math.inf for row in shipped.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", study_names())
def test_the_shipped_results_are_what_comes_out_now(name: str) -> None:
    shipped = {row.point: row for row in read_validation().rows if row.study == name}
    for row in run_study(name):
        assert row.simulated == pytest.approx(shipped[row.point].simulated, rel=1e-9), "run `make validation`"
        assert (row.low, row.high) == pytest.approx((shipped[row.point].low, shipped[row.point].high), rel=1e-9)


def test_results_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "v.json"
    Validation.now([ROW, RANGE]).write(path)
    back = read_validation(path)
    assert back.current
    assert "has changed since" not in back.said()
    assert back.rows[1] == RANGE
    assert math.isnan(back.rows[0].published_low)
    assert json.loads(path.read_text())["rows"][0]["published_low"] is None
    assert [file.name for file in path.parent.iterdir()] == ["v.json"]


def test_results_of_another_simulator_say_how_to_refresh_them() -> None:
    old = dataclasses.replace(read_validation(), simulator="0" * 16)
    assert not old.current
    assert "make validation" in old.said()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "rows": [{"study": 1}]}', "\x00"])
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(FleetcastError, match=r"v\.json: .*make validation"):
        read_validation(path)


def test_rows_are_read_while_they_are_being_printed() -> None:
    lines = f"[\n{json.dumps(record(ROW))},\n{json.dumps(record(RANGE))}"
    assert [row.point for row in rows_in(lines)] == ["vLLM", "a ratio"]
    assert [row.point for row in rows_in(lines[:-5])] == ["vLLM"]
    assert list(rows_in("[\n")) == []
    assert [row.point for row in rows_in(lines + "\n]\n")] == ["vLLM", "a ratio"]


def test_errors_are_of_published_figures_alone() -> None:
    frame = frame_of([ROW, RANGE])
    assert math.isnan(frame["error_fraction"][0])
    assert frame["error_fraction"][1] == pytest.approx(-0.2)
    assert json.loads(frame["assumed"][1]) == {"a.b": [1, "x"]}
    (study,) = overview(frame).to_dict("records")
    assert (study["points"], study["figures"], study["judged"], study["ranges"]) == (2, 1, 1, 1)
    assert math.isnan(study["median_error_fraction"])  # a range is met or missed


def test_the_error_of_a_figure_counts_and_a_range_is_met_or_not() -> None:
    figure = dataclasses.replace(RANGE, published_high=RANGE.published_low)
    met = dataclasses.replace(RANGE, published_low=0.01 * ROW.low, published_high=100 * ROW.high)
    missed = dataclasses.replace(RANGE, published_low=2 * ROW.high, published_high=3 * ROW.high)
    (study,) = overview(frame_of([figure, met, missed])).to_dict("records")
    assert (study["judged"], study["ranges"], study["ranges_met"]) == (3, 2, 1)
    assert study["median_error_fraction"] == study["worst_error_fraction"] == abs(figure.error_fraction)


def test_figures_that_a_fit_has_seen_judge_nothing() -> None:
    frame = frame_of([dataclasses.replace(RANGE, in_sample=True)])
    (study,) = overview(frame).to_dict("records")
    assert (study["figures"], study["judged"]) == (1, 0)
    assert math.isnan(study["median_error_fraction"])


def test_the_shipped_file_lies_where_the_package_ships_it() -> None:
    assert SHIPPED.is_file()
    assert SHIPPED.parent.name == "studies"
