"""Every constant as a table, two devices side by side, their pictures, and a variation's answer."""

import math
from pathlib import Path

import pytest

from app.catalog_view import HARDWARE
from app.hardware_figures import bandwidth_against_peak, roofline
from app.hardware_view import COLUMNS, compared, constants, label, search, value_text
from app.variation_answer import answers, parallel_sizes
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.fits import FOLDER
from hardware_models.variation import parse_change, vary, vary_node
from hardware_models.variation_file import write_variation

GPUS = [catalog.gpu(name) for name in catalog.names("gpu")]


def test_every_constant_has_a_grade_and_a_source() -> None:
    table = constants()
    assert list(table.columns) == list(COLUMNS)
    assert set(table["grade"]) == {"measured", "quoted", "assumed"}
    assert (table["source"].str.len() > 5).all()
    kinds = {kind.removesuffix("s").replace("_", " ") for kind in HARDWARE}
    assert set(table["kind"]) == kinds | {"engine", "calibration"}
    for kind in ("gpu", "link", "node"):
        assert set(table.loc[table["kind"] == kind, "name"]) == set(catalog.names(kind))
    calibrated = {path.parent.name for path in FOLDER.glob("*/*.toml")}
    assert set(table.loc[table["kind"] == "calibration", "name"]) == calibrated


def test_own_hardware_comes_first_and_says_what_was_changed() -> None:
    own = vary(GPUS[0], "mine", [parse_change("gpu.memory_bytes=2x")])
    first = constants([("gpu", own)]).iloc[2]
    assert (first["kind"], first["name"], first["figure"]) == ("your gpu", "mine", "memory")
    assert first["source"].startswith("varied: 2 x")


def test_a_search_finds_rows_with_every_word_in_any_case() -> None:
    table = constants()
    found = search(table, "H100-sxm BANDWIDTH")
    assert list(found["value"]) == ["3.35 TB/s"]
    assert len(search(table, "  ")) == len(table)
    assert search(table, "no such thing (").empty


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("memory_bandwidth_bytes_per_s", 3.35e12, "3.35 TB/s"),
        ("memory_bytes", 85_520_809_984, "85.52 GB"),
        ("peak_flop_per_s.fp8", 1.979e15, "1.979 PFLOP/s"),
        ("boost_clock_hz", 1.98e9, "1.98 GHz"),
        ("latency_s", 1.8e-6, "1.8 µs"),
        ("tdp_w", 700.0, "700 W"),
        ("usd_per_gpu_h.h100-sxm", 2.5, "2.5 USD/h"),
        ("random_read_iops", 800_000.0, "800 k/s"),
        ("sm_count", 132, "132"),
        ("in_switch_reduction", True, "yes"),
        ("scale_up", None, "-"),
        ("compute_fraction", 0.91, "0.91"),
    ],
)
def test_a_figure_is_shown_with_the_unit_that_its_key_names(key: str, value: object, text: str) -> None:
    assert value_text(key, value) == text


def test_keys_are_shown_as_words() -> None:
    assert label("memory_bandwidth_bytes_per_s") == "memory bandwidth"
    assert label("peak_flop_per_s.bf16") == "peak, bf16"
    assert label("l2_bytes") == "L2 cache"


def test_two_devices_side_by_side_have_ratios_where_both_have_numbers() -> None:
    table = compared(catalog.gpu("a100-80gb-sxm"), catalog.gpu("h100-sxm")).set_index("figure")
    assert table.loc["memory bandwidth", "ratio"] == pytest.approx(3.35e12 / 2.039e12, rel=0.01)
    assert math.isnan(table.loc["architecture", "ratio"])
    assert table.loc["peak, fp8", "a100-80gb-sxm"] == "-"
    assert math.isnan(table.loc["peak, fp8", "ratio"])


def test_a_roofline_is_flat_beyond_each_format_s_corner() -> None:
    h100 = catalog.gpu("h100-sxm")
    figure = roofline([h100])
    drawn = {trace.name: trace for trace in figure.data}
    bf16 = drawn["bf16, fp16"]
    assert bf16.x[0] * h100.memory_bandwidth_bytes_per_s == pytest.approx(h100.peak_flop_per_s["bf16"])
    assert set(bf16.y) == {h100.peak_flop_per_s["bf16"]}
    assert drawn["h100-sxm"].y[-1] == max(h100.peak_flop_per_s.values())


@pytest.mark.parametrize("gpu", GPUS, ids=[gpu.name for gpu in GPUS])
def test_every_pair_of_devices_can_be_drawn(gpu: object) -> None:
    assert len(roofline([GPUS[0], gpu]).data) >= 4  # type: ignore[list-item]


def test_all_gpus_are_marks_and_the_marked_ones_are_named() -> None:
    figure = bandwidth_against_peak(GPUS, ["h100-sxm"])
    marks = [trace for trace in figure.data if trace.mode == "markers+text"]
    assert sum(len(trace.x) for trace in marks) == len(GPUS)
    assert [text for trace in marks for text in trace.text if text] == ["h100-sxm"]


def test_a_variation_is_answered_beside_its_original(tmp_path: Path) -> None:
    changes = [parse_change("gpu.memory_bandwidth_bytes_per_s=2x"), parse_change("gpu.memory_bytes=2x")]
    file = write_variation(vary_node("dgx-h100", "mine", changes), tmp_path)
    table = answers("dgx-h100", str(file), "llama-3.1-70b", 8, "bf16").set_index("question")
    assert table.loc["a token of 1 sequence", "ratio"] < 0.85
    assert table.loc["prompt of 2,048 tokens", "ratio"] <= 1.0
    assert table.loc["tokens of KV cache", "ratio"] > 2.0
    same = answers("dgx-h100", "dgx-h100", "llama-3.1-70b", 8, "bf16")
    assert (same["ratio"] == 1.0).all()


def test_what_fits_the_copy_alone_is_answered_for_the_copy_alone(tmp_path: Path) -> None:
    file = write_variation(vary_node("l4-1x", "mine", [parse_change("gpu.memory_bytes=20x")]), tmp_path)
    table = answers("l4-1x", str(file), "llama-3.1-70b", 1, "bf16")
    assert table["original"].isna().all()
    assert (table["copy"] > 0).all()
    with pytest.raises(FleetcastError, match=r"llama-3\.1-70b"):
        answers("l4-1x", "l4-1x", "llama-3.1-70b", 1, "bf16")


def test_parallel_sizes_are_what_the_server_and_the_model_s_heads_allow() -> None:
    assert parallel_sizes("dgx-h100", "llama-3.1-70b") == [1, 2, 4, 8]
    assert parallel_sizes("l4-1x", "llama-3.1-70b") == [1]
