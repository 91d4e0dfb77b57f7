"""`fleetcast catalog ... --copy-to`: the copy, the sentence on mistakes, and a run with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware_models import catalog

Fleetcast = Callable[..., tuple[int, str, str]]


def test_a_copy_with_twice_the_bandwidth_answers_faster(command: Fleetcast, folder: Path) -> None:
    code, out, _ = command(
        "catalog", "nodes", "dgx-h100", "--copy-to", "mine/fast.toml", "--set", "gpu.memory_bandwidth_bytes_per_s=2x"
    )
    assert code == 0
    assert "mine/fast.toml, and gpu in mine/fast" in out
    runs = [
        json.loads(command("run", "small.toml", "--json", "--set", f"cluster.node={node}")[1])
        for node in ("dgx-h100", str(folder / "mine" / "fast.toml"))
    ]
    assert runs[1]["tpot_s"]["mean"] < 0.75 * runs[0]["tpot_s"]["mean"]
    assert (runs[0]["grades"]["operators"], runs[1]["grades"]["operators"]) == ("measured", "assumed")


def test_an_unchanged_copy_gives_the_same_latencies(command: Fleetcast, folder: Path) -> None:
    command("catalog", "nodes", "dgx-h100", "--copy-to", "same.toml", "--set", "gpu.memory_bandwidth_bytes_per_s=1x")
    assert (folder / "same" / "gpu.toml").is_file()
    runs = [
        json.loads(command("run", "small.toml", "--json", "--set", f"cluster.node={node}")[1])
        for node in ("dgx-h100", str(folder / "same.toml"))
    ]
    for key in ("ttft_s", "tpot_s", "e2e_s", "energy_j", "grades"):
        assert runs[0][key] == runs[1][key]


def test_a_part_alone_can_be_copied_and_shown(command: Fleetcast, folder: Path) -> None:
    code, _, _ = command(
        "catalog", "links", "nvlink4-switch", "--copy-to", "l.toml", "--set", "bandwidth_bytes_per_s=2e11"
    )
    assert code == 0
    assert catalog.link("l.toml").bandwidth_bytes_per_s == 2e11
    code, out, _ = command("catalog", "links", "l.toml")
    assert "varied: set, in place of the 4.5e+11 of nvlink4-switch" in out
    assert "variation_of" in out


def test_entries_of_the_catalog_itself_say_nothing_of_variations(command: Fleetcast) -> None:
    assert "variation_of" not in command("catalog", "gpus", "h100-sxm")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nodes", "dgx-h100", "--set", "gpus=4"), "--copy-to FILE.toml"),
        (("nodes", "--copy-to", "x.toml"), "give its kind and name"),
        (("models", "llama-3.1-8b", "--copy-to", "x.toml"), "copies an entry of gpus, links, nics, nodes"),
        (("nodes", "dgx-h100", "--copy-to", "x"), "ending in .toml"),
        (("nodes", "dgx-h100", "--copy-to", "dgx-h200.toml"), "server of the catalog"),
        (("nodes", "dgx-h100", "--copy-to", ".x.toml"), "is no name for a copy"),
        (("nodes", "dgx-h10", "--copy-to", "x.toml"), "did you mean"),
        (("gpus", "h100-sxm", "--copy-to", "x.toml", "--set", "gpu.memory_bytes=2x"), "give the key alone"),
        (("nodes", "dgx-h100", "--copy-to", "small.toml"), "is there already"),
    ],
)
def test_mistakes_are_a_sentence_and_leave_nothing_behind(
    command: Fleetcast, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = sorted(folder.rglob("*"))
    code, _, err = command("catalog", *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert said in err
    assert sorted(folder.rglob("*")) == before
