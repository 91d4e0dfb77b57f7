"""Folders of measurements: what is read, and what is refused with which words."""

from pathlib import Path

import pytest

from calibration.measurement import read_device, read_measurements, write_device, write_rows
from calibration.measurement_bounds import bounds
from calibration.measurement_kinds import KINDS, Column, cell, kind
from calibration.measurement_work import WORK, visible_pairs, work
from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError

GEMM = {"m": 4096, "n": 8192, "k": 8192, "dtype": "bf16", "weight_dtype": "bf16"}
TIMES = {"seconds": 8e-4, "spread_s": 1e-6, "repeats": 20}
EXAMPLES = {  # one believable row of each kind on an H200
    "gemm": GEMM | TIMES,
    "attention_prefill": {
        "batch": 1,
        "new_tokens": 4096,
        "past_tokens": 0,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "dtype": "bf16",
        "kv_dtype": "bf16",
        "window": 0,
        "backend": "flash",
        **TIMES,
        "seconds": 4e-4,
    },
    "attention_decode": {
        "batch": 32,
        "context_tokens": 4096,
        "skew": 0.5,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "dtype": "bf16",
        "kv_dtype": "bf16",
        "window": 0,
        "backend": "flash",
        **TIMES,
        "seconds": 1.6e-4,
    },
    "moe": {
        "tokens": 64,
        "hidden": 4096,
        "intermediate": 14336,
        "experts": 8,
        "top_k": 2,
        "skew": 0,
        "dtype": "bf16",
        "weight_dtype": "bf16",
        "backend": "grouped",
        **TIMES,
    },
    "elementwise": {
        "name": "rmsnorm",
        "rows": 4096,
        "width": 4096,
        "reads": 1,
        "writes": 1,
        "dtype": "bf16",
        "backend": "torch",
        **TIMES,
        "seconds": 2e-5,
    },
    "memory": {"name": "copy", "bytes": 2**32, "seconds": 1e-3, "spread_s": 0, "repeats": 9},
    "copy": {"direction": "h2d", "pinned": 1, "blocks": 1, "block_bytes": 2**30, **TIMES, "seconds": 0.02},
    "host": {"name": "kernel_launch", "count": 100, **TIMES, "seconds": 4e-4},
    "collective": {
        "kind": "all_reduce",
        "ranks": 8,
        "payload_bytes": 2**20,
        "dtype": "bf16",
        "backend": "nccl",
        "link": "nvlink4-switch",
        **TIMES,
    },
    "storage": {"operation": "read", "block_bytes": 4096, "queue_depth": 8, "direct": 1, **TIMES},
    "cpu": {"name": "stream_triad", "bytes": 2**30, "threads": 8, **TIMES, "seconds": 0.01},
    "power": {"load": "compute", "intensity": 1.0, "watts": 690.5, "clock_hz": 1.5e9, **TIMES, "seconds": 2.0},
}


def folder_with(path: Path, name: str, *rows: dict, device: str = "h200") -> Path:
    write_device(path, {"device": device, "date": "2026-01-01", "software": {"torch": '2 "x"'}})
    write_rows(path / f"{name}.csv", KINDS[name], list(rows))
    return path


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    frame = read_measurements(folder_with(tmp_path, name, EXAMPLES[name]), expect_device="h200")[name]
    assert len(frame) == 1
    for column, value in EXAMPLES[name].items():
        assert frame[column][0] == value, column
    assert list(frame.columns[-3:]) == ["seconds", "spread_s", "repeats"]


@pytest.mark.parametrize("name", WORK)
def test_milliseconds_taken_for_seconds_are_refused(tmp_path: Path, name: str) -> None:
    row = EXAMPLES[name] | {"seconds": EXAMPLES[name]["seconds"] * 1e3}
    with pytest.raises(FleetcastError, match=rf"{name}.csv, row 2, column seconds = .*looks like milliseconds"):
        read_measurements(folder_with(tmp_path, name, row))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("power", "host", "elementwise", "storage")])
def test_times_no_device_can_take_are_refused(tmp_path: Path, name: str) -> None:
    row = EXAMPLES[name] | {"seconds": 2e-9}
    with pytest.raises(FleetcastError, match=rf"{name}.csv, row 2, column seconds = 2e-09: .*wrong unit"):
        read_measurements(folder_with(tmp_path, name, row))


def test_the_peak_is_passed_by_five_per_cent_at_most() -> None:
    spec = catalog.gpu("h200")
    floor = 2 * GEMM["m"] * GEMM["n"] * GEMM["k"] / spec.peak_flop_per_s["bf16"]
    limit = bounds("gemm", GEMM, spec)
    assert limit is not None
    assert limit.mistake(floor / 1.04) is None
    assert "wrong unit" in (limit.mistake(floor / 1.06) or "")


def test_bandwidth_above_the_peak_is_refused_beyond_the_cache_only() -> None:
    spec = catalog.gpu("h200")
    for size, refused in ((2**20, False), (2**32, True)):
        limit = bounds("memory", {"name": "read", "bytes": size}, spec)
        assert limit is not None
        mistake = limit.mistake(size / spec.memory_bandwidth_bytes_per_s / 1.35)
        assert (mistake is not None) == refused


def test_a_dtype_the_device_lacks_is_refused(tmp_path: Path) -> None:
    row = EXAMPLES["gemm"] | {"dtype": "fp8", "weight_dtype": "fp8"}
    with pytest.raises(FleetcastError, match="row 2: dtype = 'fp8': a100-80gb-sxm has no such arithmetic"):
        read_measurements(folder_with(tmp_path, "gemm", row, device="a100-80gb-sxm"))


def test_an_unknown_device_is_held_to_what_any_device_can_do(tmp_path: Path) -> None:
    read_measurements(folder_with(tmp_path, "gemm", EXAMPLES["gemm"] | {"seconds": 0.5}, device="some-cpu"))
    with pytest.raises(FleetcastError, match="wrong unit"):
        read_measurements(folder_with(tmp_path, "gemm", EXAMPLES["gemm"] | {"seconds": 1e-8}, device="some-cpu"))


HEADER = "m,n,k,dtype,weight_dtype,seconds,spread_s,repeats\n"
GOOD = "4096,8192,8192,bf16,bf16,0.0008,0.000001,20\n"
FILES = [
    ("", "gemm.csv: is empty"),
    (HEADER, "has a header and no row"),
    (HEADER + "4096,8192\n", "row 2: has 2 cells where the header names 8"),
    (HEADER + GOOD + GOOD.replace("0.0008", "nan"), "row 3, column seconds = 'nan': give a number from"),
    (HEADER + GOOD.replace("0.0008", "0"), "row 2, column seconds = '0'"),
    (HEADER + GOOD.replace("0.0008", "-1"), "row 2, column seconds = '-1'"),
    (HEADER + GOOD.replace("0.0008", "fast"), "column seconds = 'fast': give a number"),
    (HEADER + GOOD.replace("4096", "40.5"), "row 2, column m = '40.5': give a whole number"),
    (HEADER + GOOD.replace("4096", "0"), "row 2, column m = '0'"),
    (HEADER + GOOD.replace("bf16,bf16", "bf61,bf16"), "row 2, column dtype = 'bf61': give one of"),
    (HEADER.replace("repeats", "laps") + GOOD, "row 1: unknown column 'laps'; known: m,"),
    (HEADER.replace(",repeats", "") + GOOD.replace(",20", ""), "row 1: column 'repeats' is missing"),
    (HEADER.replace("n,k", "n,n") + GOOD, "row 1: column 'n' stands there twice"),
    (HEADER + GOOD + GOOD.replace("0.0008", "0.0009"), "row 3, column seconds: the point of row 2 again"),
    (HEADER + '"4096,8192', "is not a readable CSV file"),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=[words[:40] for _, words in FILES])
def test_a_broken_file_is_told_by_file_row_and_column(tmp_path: Path, content: str, words: str) -> None:
    folder_with(tmp_path, "gemm", EXAMPLES["gemm"])
    (tmp_path / "gemm.csv").write_text(content)
    with pytest.raises(FleetcastError) as caught:
        read_measurements(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "gemm.csv"))
    assert words in str(caught.value)


def test_equal_duplicates_count_once(tmp_path: Path) -> None:
    folder_with(tmp_path, "gemm", EXAMPLES["gemm"], EXAMPLES["gemm"])
    assert len(read_measurements(tmp_path)["gemm"]) == 1


def test_binary_files_are_refused(tmp_path: Path) -> None:
    folder_with(tmp_path, "gemm", EXAMPLES["gemm"])
    (tmp_path / "gemm.csv").write_bytes(b"\xff\xfe\x00m")
    with pytest.raises(FleetcastError, match="not a readable CSV file"):
        read_measurements(tmp_path)


def test_another_device_is_refused_where_one_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match="device = 'h200' where 'h100-sxm' was expected"):
        read_measurements(folder_with(tmp_path, "gemm", EXAMPLES["gemm"]), expect_device="h100-sxm")


def test_stray_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"device.toml: cannot be read"):
        read_measurements(tmp_path)
    write_device(tmp_path, {"device": "h200", "date": "2026-01-01"})
    with pytest.raises(FleetcastError, match="holds no measurement file"):
        read_measurements(tmp_path)
    folder_with(tmp_path, "gemm", EXAMPLES["gemm"])
    (tmp_path / "skipped.csv").write_text("kind,point,reason,detail\n")
    read_measurements(tmp_path)
    (tmp_path / "gems.csv").write_text("a\n1\n")
    with pytest.raises(FleetcastError, match=r"gems.csv: is no file of measurements; known: .*gemm.csv"):
        read_measurements(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("schema = 2", "schema = 2; this version reads schema = 1"),
        ('schema = 1\ndate = "x"\nunits = "SI"', "key 'device' is missing"),
        ('schema = 1\ndevice = "x"\ndate = "x"\nunits = "ms"', "units = 'ms'"),
        ("schema = ", "is not valid TOML"),
    ],
)
def test_a_broken_device_file_is_told(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "device.toml").write_text(content)
    with pytest.raises(FleetcastError, match=words):
        read_device(tmp_path)


def test_device_files_survive_odd_text(tmp_path: Path) -> None:
    odd = {"device": 'a "b" \\ c\nd', "date": "2026-01-01", "on": True, "attention": {'k: "q" x': "1 us\t"}}
    write_device(tmp_path, odd)
    read = read_device(tmp_path)
    assert read["device"] == 'a "b" \\ c d'
    assert read["attention"] == {'k: "q" x': "1 us "}
    assert read["on"] is True


@pytest.mark.parametrize(("new", "past", "window"), [(5, 0, 0), (5, 7, 0), (5, 7, 3), (5, 0, 3), (9, 2, 6), (1, 9, 4)])
def test_visible_pairs_count_as_a_mask_does(new: int, past: int, window: int) -> None:
    counted = sum(min(past + i + 1, window or past + i + 1) for i in range(new))
    assert visible_pairs(new, past, window) == counted


def test_skew_may_leave_experts_unread() -> None:
    even, skewed = (work("moe", EXAMPLES["moe"] | {"skew": skew}) for skew in (0.0, 1.0))
    assert even is not None
    assert skewed is not None
    assert skewed.moved_bytes < even.moved_bytes
    assert skewed.flop == even.flop


def test_whole_floats_are_written_as_the_integers_they_equal() -> None:
    assert [cell(value) for value in (0.0, 0, 2.0, 1e-5, 0.1, "x")] == ["0", "0", "2", "1e-05", "0.1", "x"]


def test_unknown_kinds_are_told() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gemm'"):
        kind("gem")


def test_infinite_numbers_are_out_of_range() -> None:
    with pytest.raises(ValueError, match="give a number from"):
        Column("x", "float").parse("inf")
