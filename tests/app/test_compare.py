import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.compare import BOUND_BY, RunFolder, comparison_lines, different_settings, reason
from hardware_models.errors import FleetcastError
from hardware_models.variation import parse_change, vary_node
from hardware_models.variation_file import write_variation
from sim.result import Result

Simulate = Callable[..., Result]


@pytest.fixture
def runs(folder: Path, simulate: Simulate) -> list[RunFolder]:
    for name, overrides in (("a", ()), ("b", ("serving.max_num_seqs=32", "model.weight_dtype=fp8"))):
        simulate(*overrides).write(folder / name)
    return [RunFolder.read(folder / name) for name in "ab"]


def line(lines: list[str], start: str) -> str:
    return next(one for one in lines if one.strip().startswith(start))


def test_only_the_settings_that_differ_are_listed(runs: list[RunFolder]) -> None:
    text = "\n".join(comparison_lines(runs))
    assert line(comparison_lines(runs), "serving.max_num_seqs").split()[1:] == ["64", "32"]
    assert line(comparison_lines(runs), "model.weight_dtype").split()[1:] == ["bf16", "fp8"]
    assert "serving.block_size" not in text


def test_changes_are_against_the_first_run(runs: list[RunFolder]) -> None:
    runs[1].summary["mfu"] = 1.5 * runs[0].summary["mfu"]
    assert "(+50.0%)" in line(comparison_lines(runs), "MFU")


def test_a_manifold_is_a_ratio_and_columns_stay_apart(runs: list[RunFolder]) -> None:
    runs[0].summary["request_goodput_per_s"], runs[1].summary["request_goodput_per_s"] = 0.4437, 7.415
    assert line(comparison_lines(runs), "goodput").split()[1:] == [
        "0.4437",
        "requests/s",
        "7.415",
        "requests/s",
        "(x16.7)",
    ]


def test_the_reason_names_what_moved_most(runs: list[RunFolder]) -> None:
    base, run = runs
    run.summary["bound_by"] = {**base.summary["bound_by"], "network_fraction": 0.4}
    base.summary["bound_by"]["network_fraction"] = 0.1
    assert reason(base, run).startswith("30.0 points more of the time is network. ")


def test_a_run_against_itself_has_not_moved(runs: list[RunFolder]) -> None:
    lines = comparison_lines([runs[0], copy.deepcopy(runs[0])])
    assert "2: a: no share of the time moved by more than 0.0 points." in "\n".join(lines)


def test_a_run_that_served_nothing_compares(folder: Path, simulate: Simulate, runs: list[RunFolder]) -> None:
    simulate("serving.max_model_len=5").write(folder / "none")
    empty = RunFolder.read(folder / "none")
    for pair in ([runs[0], empty], [empty, runs[0]]):
        assert any("served no request" in one for one in comparison_lines(pair))


@pytest.mark.parametrize("content", ["[]", "{}", '{"bound_by": {}, "bottleneck": "x"}', "x", "\xff"])
def test_a_summary_that_is_none_is_refused_by_name(folder: Path, content: str) -> None:
    (folder / "x").mkdir()
    (folder / "x" / "summary.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(FleetcastError, match=r"x/summary\.json: is no"):
        RunFolder.read(folder / "x")


def test_a_summary_holds_every_share(simulate: Simulate) -> None:
    assert tuple(json.loads(simulate().summary_json())["bound_by"]) == BOUND_BY


def test_other_figures_behind_one_file_name_are_told_apart(folder: Path, simulate: Simulate) -> None:
    for name, factor in (("a", "2x"), ("b", "4x")):
        changes = [parse_change(f"gpu.memory_bandwidth_bytes_per_s={factor}")]
        file = write_variation(vary_node("dgx-h100", "mine", changes), folder)
        simulate(f"cluster.node={file}").write(folder / name)
    runs = [RunFolder.read(folder / name) for name in "ab"]
    assert different_settings(runs) == {
        "hardware.gpu.memory_bandwidth_bytes_per_s": ["2x of h100-sxm", "4x of h100-sxm"]
    }
    assert line(comparison_lines(runs), "hardware.gpu").split()[1:] == ["2x", "of", "h100-sxm", "4x", "of", "h100-sxm"]


def test_a_summary_of_an_earlier_version_has_no_hardware_of_its_own(runs: list[RunFolder]) -> None:
    before = different_settings(runs)
    del runs[0].summary["hardware"]
    assert different_settings(runs) == before
