"""`fleetcast validate`: one point, a knob changed, rows as they come, and a file of results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.validation import read_validation

STUDY, POINT = "serving/sarathi-iteration-times", "prefill of 256 tokens"
Fleetcast = Callable[..., tuple[int, str, str]]


def test_one_point_is_one_row_of_json_on_a_line_of_its_own(command: Fleetcast) -> None:
    code, out, _ = command("validate", STUDY, "--point", POINT, "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["study"], row["point"], row["published_low"]) == (STUDY, POINT, 0.0698)
    assert len(out.splitlines()) == 3


def test_a_knob_changes_the_figure_but_not_what_was_published(command: Fleetcast) -> None:
    rows = [
        json.loads(command("validate", STUDY, "--point", POINT, "--set", f"serving.engine={engine}", "--json")[1])[0]
        for engine in ("ideal", "vllm-0.2")
    ]
    assert rows[0]["simulated"] < rows[1]["simulated"]
    assert rows[0]["published_low"] == rows[1]["published_low"]
    assert rows[0]["low"] == rows[0]["high"]


def test_results_are_kept_in_a_file(command: Fleetcast, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    code, out, _ = command("validate", STUDY, "--out", str(path))
    assert code == 0
    assert f"written: {path}" in out
    assert [row.study for row in read_validation(path).rows] == [STUDY] * 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--point", POINT), "--point: goes with one study"),
        ((STUDY, "--point", "prefil of 256 tokens"), "did you mean 'prefill of 256 tokens'"),
        ((STUDY, "--set", "serving.engine"), "write it as key=value"),
        ((STUDY, "--set", "serving.engin=ideal"), "engin"),
        ((STUDY, "--set", "serving.engine=ideal", "--out", "x.json"), "leave out --point and --set"),
        (("serving/nothing",), "unknown name 'serving/nothing'"),
    ],
)
def test_mistakes_are_a_sentence_and_exit_code_2(command: Fleetcast, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = command("validate", *arguments)
    assert code == 2
    assert err.startswith("fleetcast: ")
    assert err.count("\n") == 1
    assert said in err
    assert not Path("x.json").exists()


def test_the_list_names_studies_without_simulating(command: Fleetcast) -> None:
    code, out, _ = command("validate", "--list")
    assert code == 0
    assert STUDY in out
    assert "prefill of" not in out
