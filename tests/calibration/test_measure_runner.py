"""Budget, order, resumption and failures of a run, with benches and a clock that are played."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.measure.cost import Costs, resident_bytes
from calibration.measure.order import interleave
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.report import plan_table, result_table
from calibration.measure.results import Results
from calibration.measure.runner import Runner
from calibration.measurement import read_measurements, write_device
from hardware_models.errors import FleetcastError


def product(m: int, level: int = 0, dtype: str = "bf16") -> Point:
    values = {"m": m, "n": 4096, "k": 4096, "dtype": dtype, "weight_dtype": dtype}
    return Point(kind="gemm", values=values, level=level)


def host(count: int, level: int = 0) -> Point:
    return Point(kind="host", values={"name": "python_op", "count": count}, level=level)


class Played:
    """A clock, a machine and a bench: each measurement takes `cost_s` of the clock's time."""

    def __init__(self, cost_s: float = 1.0) -> None:
        self.now, self.cost_s, self.free = 100.0, cost_s, 1e12
        self.asked: list[Point] = []
        self.ended: list[tuple[int, int]] = []
        self.failures: dict[int, BaseException] = {}  # by m
        self.lost: str | None = None

    def bench(self, point: Point, limit_s: float) -> Sample:
        self.asked.append(point)
        self.now += self.cost_s
        if point.values.get("m") in self.failures:
            raise self.failures[point.count("m")]
        return Sample(seconds=1e-3, spread_s=1e-5, repeats=7)

    def free_bytes(self) -> float:
        return self.free

    def recover(self) -> str | None:
        return self.lost

    def begin(self, point: Point, estimate_s: float) -> None:
        assert estimate_s > 0

    def end(self, done: int, total: int, left_s: float) -> None:
        self.ended.append((done, total))

    def run(self, folder: Path, points: list[Point], budget_s: float = 1e6) -> Results:
        results = Results(folder)
        runner = Runner(
            benches={"gemm": self.bench, "host": self.bench},
            target=self,
            results=results,
            costs=Costs(1e14, 1e12),
            watch=self,
            clock=lambda: self.now,
        )
        runner.run(points, budget_s)
        return results


def skipped(folder: Path) -> list[list[str]]:
    lines = (folder / "skipped.csv").read_text().splitlines()
    assert lines[0] == "kind,point,reason,detail"
    return [line.split(",", 3) for line in lines[1:]]


def test_every_point_ends_in_a_file_that_reads_back(tmp_path: Path) -> None:
    played = Played()
    write_device(tmp_path, {"device": "some-gpu", "date": "2026-01-01"})
    played.run(tmp_path, [product(1), product(2), host(3)])
    frames = read_measurements(tmp_path)
    assert list(frames["gemm"]["m"]) == [1, 2]
    assert list(frames["host"]["repeats"]) == [7]
    assert played.ended == [(1, 3), (2, 3), (3, 3)]
    assert not (tmp_path / "skipped.csv").exists()


def test_a_rerun_measures_only_what_is_missing(tmp_path: Path) -> None:
    Played().run(tmp_path, [product(1), product(2)])
    again = Played()
    again.run(tmp_path, [product(1), product(2), product(3)])
    assert [point.count("m") for point in again.asked] == [3]
    assert (tmp_path / "gemm.csv").read_text().count("\n") == 4


def test_the_budget_is_kept_and_what_it_cuts_is_recorded(tmp_path: Path) -> None:
    played = Played(cost_s=10.0)
    results = played.run(tmp_path, [product(m) for m in range(1, 21)], budget_s=60.0)
    assert played.now - 100.0 <= 60.0
    assert len(played.asked) + len(skipped(tmp_path)) == 20
    assert {row[2] for row in skipped(tmp_path)} == {"budget"}
    assert results.skipped["gemm", "budget"] == 20 - len(played.asked)
    assert len(played.asked) >= 4


def test_a_budget_cut_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    points = [product(m) for m in range(1, 21)]
    Played(cost_s=10.0).run(tmp_path, points, budget_s=60.0)
    Played().run(tmp_path, points)
    assert not (tmp_path / "skipped.csv").exists()
    assert (tmp_path / "gemm.csv").read_text().count("\n") == 21


def test_estimates_learn_what_points_of_a_kind_take() -> None:
    costs = Costs(1e14, 1e12)
    first = costs.estimate_s(product(1))
    for _ in range(30):
        costs.learn(product(1), 4.0)
    assert costs.estimate_s(product(1)) == pytest.approx(4.0, rel=0.05)
    assert costs.estimate_s(host(1)) < 1.0
    assert first < 1.0
    huge = product(2**20)
    assert costs.estimate_s(huge) > 4.0 + 8 * 2 * 2**20 * 4096**2 / 1e14 * 0.99


def test_what_does_not_fit_in_memory_is_not_tried(tmp_path: Path) -> None:
    played = Played()
    played.free = resident_bytes(product(64)) / 0.9 * 1.01
    played.run(tmp_path, [product(64), product(2**20)])
    assert [point.count("m") for point in played.asked] == [64]
    assert skipped(tmp_path)[0][2] == "memory"


def test_a_failing_point_is_recorded_by_its_first_line_and_the_run_goes_on(tmp_path: Path) -> None:
    played = Played()
    played.failures = {
        1: RuntimeError("fp8 needs, at least,\nsm_89"),
        2: CannotMeasureError("no kernel for it"),
        3: MemoryError(),
    }
    played.run(tmp_path, [product(m) for m in (1, 2, 3, 4)])
    rows = skipped(tmp_path)
    assert [row[2] for row in rows] == ["error", "unsupported", "error"]
    assert rows[0][3] == '"RuntimeError: fp8 needs, at least,"'
    assert rows[2][3] == "MemoryError:"
    assert (tmp_path / "gemm.csv").read_text().count("\n") == 2


def test_slow_failures_count_in_the_estimates(tmp_path: Path) -> None:
    played = Played(cost_s=20.0)
    played.failures = dict.fromkeys(range(1, 50), TimeoutError("no answer"))
    played.run(tmp_path, [product(m) for m in range(1, 50)], budget_s=100.0)
    assert played.now - 100.0 <= 100.0
    assert {row[2] for row in skipped(tmp_path)} == {"error", "budget"}


def test_a_lost_device_ends_measuring_and_the_culprit_is_never_tried_again(tmp_path: Path) -> None:
    played = Played()
    played.failures, played.lost = {2: RuntimeError("CUDA error")}, "the device stopped answering"
    played.run(tmp_path, [product(m) for m in (1, 2, 3)])
    assert [row[2] for row in skipped(tmp_path)] == ["fatal", "device"]
    again = Played()
    again.run(tmp_path, [product(m) for m in (1, 2, 3)])
    assert [point.count("m") for point in again.asked] == [3]
    assert [row[2] for row in skipped(tmp_path)] == ["fatal"]


def test_a_kind_nobody_can_measure_is_recorded(tmp_path: Path) -> None:
    Played().run(tmp_path, [Point(kind="memory", values={"name": "read", "bytes": 8}, level=0)])
    assert skipped(tmp_path) == [
        ["memory", "name=read bytes=8", "unsupported", "this machine has no way to measure the kind"]
    ]


def test_a_sample_out_of_range_is_an_error_not_a_row(tmp_path: Path) -> None:
    played = Played()
    played.bench = lambda point, limit_s: Sample(seconds=float("nan"), spread_s=0.0, repeats=1)  # type: ignore[method-assign]
    played.run(tmp_path, [product(1)])
    assert "seconds = 'nan'" in skipped(tmp_path)[0][3]
    assert not (tmp_path / "gemm.csv").exists()


def test_an_interrupt_leaves_a_folder_to_go_on_with(tmp_path: Path) -> None:
    played = Played()
    played.failures = {2: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        played.run(tmp_path, [product(m) for m in (1, 2, 3)])
    write_device(tmp_path, {"device": "some-gpu", "date": "2026-01-01"})
    assert list(read_measurements(tmp_path)["gemm"]["m"]) == [1]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    Played().run(tmp_path, [product(1), product(2)])
    path = tmp_path / "gemm.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    Played().run(tmp_path, [product(1), product(2)])
    assert path.read_bytes() == whole


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gemm.csv").write_text("m,n\n1,2\n")
    with pytest.raises(FleetcastError, match="columns are 'm,n'"):
        Results(tmp_path)


def test_tables_count_what_was_measured_and_skipped(tmp_path: Path) -> None:
    played = Played()
    played.failures = {2: RuntimeError("x")}
    table = result_table(played.run(tmp_path, [product(1), product(2), host(1)]))
    line = next(line for line in table.splitlines() if line.startswith("gemm"))
    assert line.split() == ["gemm", "1", "0.03355", "TFLOP/s,", "33.57", "GB/s", "1", "error"]
    assert plan_table([product(1), product(2, 1), host(1)]).splitlines()[1].split() == ["gemm", "1", "1", "0", "0"]


levels = st.lists(st.integers(0, 3), max_size=30)


@given(levels, levels)
def test_interleaving_keeps_every_point_once_and_levels_in_order(first: list[int], second: list[int]) -> None:
    points = [product(i + 1, level) for i, level in enumerate(first)] + [host(i + 1, v) for i, v in enumerate(second)]
    ordered = interleave([*points, *points])
    assert sorted(point.key for point in ordered) == sorted(point.key for point in points)
    assert [point.level for point in ordered] == sorted(point.level for point in points)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_cut_of_a_level_leaves_fair_shares(many: int, few: int) -> None:
    ordered = interleave([*(product(i + 1) for i in range(many)), *(host(i + 1) for i in range(few))])
    for cut in range(len(ordered) + 1):
        done = sum(point.kind == "gemm" for point in ordered[:cut])
        assert abs(done / many - (cut - done) / few) <= 0.5 / many + 0.5 / few + 1 / min(many, few)


def test_a_point_in_two_levels_is_measured_in_the_first() -> None:
    assert [point.level for point in interleave([product(1, 2), product(1, 0)])] == [0]
