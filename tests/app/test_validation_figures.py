"""Pictures of studies and of calibrations, as figures."""

import dataclasses

import pytest

from app.fidelity_view import coverage_strip, error_map, fits_frame, honest, shipped_fits
from app.validation import frame_of, read_validation
from app.validation_figures import against_published, parity, residuals
from calibration.report.targets import COVERAGE
from hardware_models.fits import FOLDER
from sim.study import study_names

FRAME = frame_of(read_validation().rows)


@pytest.mark.parametrize("name", study_names())
def test_a_study_s_picture_marks_each_published_figure_and_labels_it(name: str) -> None:
    frame = FRAME[FRAME["study"] == name]
    published = frame[frame["published_low"].notna()]
    figure = against_published(frame)
    marked = [trace for trace in figure.data if trace.name == "simulated"]
    assert sum(len(trace.x) for trace in marked) == len(published)
    labels = {annotation.text.rpartition(": <b>")[0] for annotation in figure.layout.annotations}
    assert set(published["point"]) == labels


def test_a_changed_point_is_drawn_beside_the_published_one() -> None:
    frame = FRAME[FRAME["study"] == "serving/sarathi-iteration-times"]
    first = next(row for row in read_validation().rows if row.study == "serving/sarathi-iteration-times")
    changed = frame_of([dataclasses.replace(first, simulated=0.3)])
    (mark,) = [trace for trace in against_published(frame, changed).data if trace.name == "changed"]
    assert list(mark.x) == [0.3]


def test_figures_that_a_fit_has_seen_are_hollow() -> None:
    frame = FRAME[FRAME["study"] == "serving/sarathi-serve-batch-times"]
    (trace,) = [trace for trace in against_published(frame).data if trace.name == "simulated"]
    hollow = [symbol.endswith("-open") for symbol in trace.marker.symbol]
    assert hollow == list(frame["in_sample"])
    assert 0 < sum(hollow) < len(hollow)


def test_a_study_without_published_figures_says_so() -> None:
    frame = FRAME[FRAME["published_low"].isna()]
    for figure in (against_published(frame), parity(frame), residuals(frame), parity(FRAME.head(0))):
        assert len(figure.layout.annotations) == 1
        assert not figure.data


def test_parity_and_residuals_hold_every_published_figure() -> None:
    count = int(FRAME["published_low"].notna().sum())
    for figure in (parity(FRAME), residuals(FRAME)):
        assert sum(len(trace.x) for trace in figure.data if trace.mode == "markers") == count


def test_every_shipped_fit_is_a_row_and_a_mark() -> None:
    files = shipped_fits()
    assert len(files) == len(list(FOLDER.glob("*/*.toml")))
    fits = fits_frame(files)
    assert len(fits) == sum(len(file.fit) for file in files.values())
    assert sum(len(trace.x) for trace in coverage_strip(fits).data if trace.mode == "markers") == len(fits)


def test_the_error_map_shows_the_16_bit_fits() -> None:
    fits = fits_frame(shipped_fits())
    (heat,) = error_map(fits).data
    h100 = list(heat.y).index("h100-sxm")
    gemm = fits[(fits["device"] == "h100-sxm") & (fits["kernel"] == "gemm") & fits["plain"]]["median"].item()
    assert heat.z[h100][list(heat.x).index("gemm")] == gemm


def test_an_interval_is_honest_within_its_target_or_where_points_are_few() -> None:
    fits = fits_frame(shipped_fits())
    low, high = COVERAGE
    judged = fits[fits["kept_out"] >= 20]
    assert (honest(judged) == judged["coverage"].between(low, high)).all()
    assert honest(fits[fits["kept_out"] < 20]).all()
