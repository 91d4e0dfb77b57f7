from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.guard import bare_tables, safe_scenario
from app.web.store import Store
from hardware_models.errors import FleetcastError, UnknownNameError


def tables(section: str = "", key: str = "", value: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023"},
    }
    if section:
        made.setdefault(section, {})[key] = value
    return made


PLACES = [("model", "config"), ("cluster", "node"), ("workload", "trace")]
PATHS = ["/etc/passwd", "../x", "./x", "~/x", "x/y.json", "..\\x", ".hidden.toml", "x/../../y.csv", "/proc/self/mem"]


@pytest.mark.parametrize(("section", "key"), PLACES)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_refused_with_a_sentence(tmp_path: Path, section: str, key: str, path: str) -> None:
    with pytest.raises(FleetcastError, match=rf"t: {section}\.{key} = .*the app reads no files but its own"):
        safe_scenario(tables(section, key, path), "t", Store(tmp_path))


@given(name=st.text(min_size=1, max_size=30))
def test_whatever_stands_there_no_file_of_the_system_is_meant(name: str) -> None:
    store = Store(Path("/nowhere"))
    try:
        scenario = safe_scenario(tables("model", "config", name), "t", store)
    except FleetcastError:
        return
    assert "/" not in scenario.model.config
    assert "\\" not in scenario.model.config


def test_files_of_the_store_go_by_their_bare_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_upload("mine.csv", b"arrival_s,prompt_tokens,output_tokens\n0,10,2\n", 1000)
    scenario = safe_scenario(tables("workload", "trace", "mine.csv"), "t", store)
    assert scenario.workload.trace == str(tmp_path.resolve() / "uploads" / "mine.csv")
    assert bare_tables(scenario, store)["workload"]["trace"] == "mine.csv"


def test_a_link_out_of_the_store_is_no_file_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.uploads.mkdir()
    (store.uploads / "mine.csv").symlink_to("/etc/passwd")
    with pytest.raises(FleetcastError, match=r"mine\.csv"):
        safe_scenario(tables("workload", "trace", "mine.csv"), "t", store)


@pytest.mark.parametrize("gpu", ["/etc/x.toml", "../../x.toml", "link.toml"])
def test_a_node_file_may_not_name_parts_outside(tmp_path: Path, gpu: str) -> None:
    store = Store(tmp_path / "runs")
    store.hardware.mkdir(parents=True)
    (tmp_path / "out.toml").write_text("")
    (store.hardware / "link.toml").symlink_to(tmp_path / "out.toml")
    (store.hardware / "mine.toml").write_text(f'name = "mine"\ngpu = "{gpu}"\n')
    with pytest.raises(FleetcastError, match="outside the app's hardware folder"):
        safe_scenario(tables("cluster", "node", "mine.toml"), "t", store)


def test_node_files_that_name_each_other_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.hardware.mkdir()
    (store.hardware / "mine.toml").write_text('gpu = "mine.toml"\n')
    with pytest.raises(FleetcastError, match="in a circle"):
        safe_scenario(tables("cluster", "node", "mine.toml"), "t", store)


def test_another_name_of_a_model_is_its_own(tmp_path: Path) -> None:
    scenario = safe_scenario(tables("model", "config", "meta-llama/Llama-3.1-70B"), "t", Store(tmp_path))
    assert scenario.model.config == "llama-3.1-70b"


def test_a_misspelt_name_gets_the_command_lines_sentence(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"t: cluster\.node: unknown name 'dgx-h10'; did you mean 'dgx-h100'"):
        safe_scenario(tables("cluster", "node", "dgx-h10"), "t", Store(tmp_path))


def test_other_values_are_no_paths_either(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"serving\.engine = '\.\./x': the app takes names, not paths"):
        safe_scenario(tables("serving", "engine", "../x"), "t", Store(tmp_path))
    generator = {"name": "clients", "clients": [{"name": "/etc/passwd"}]}
    with pytest.raises(FleetcastError, match="takes names, not paths"):
        safe_scenario(tables("workload", "generator", generator), "t", Store(tmp_path))


def test_tables_without_end_are_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"x": deep}
    with pytest.raises(FleetcastError, match="deep in each other"):
        safe_scenario(tables("workload", "generator", deep), "t", Store(tmp_path))


@pytest.mark.parametrize(("section", "key"), PLACES)
@pytest.mark.parametrize("name", ["private.csv.gz", "private", "LICENSE", "private.tar", "private.csv.zst"])
def test_a_file_where_the_app_was_started_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, key: str, name: str
) -> None:
    (tmp_path / name).write_text("secret,figures\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=rf"t: {section}\.{key}: unknown name '{name}'"):
        safe_scenario(tables(section, key, name), "t", Store(tmp_path / "runs"))


def test_a_misspelt_upload_is_helped_to_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_upload("mine-of-may.csv", b"x", 1000)
    with pytest.raises(UnknownNameError, match=r"did you mean 'mine-of-may\.csv'"):
        safe_scenario(tables("workload", "trace", "mine-of-mai"), "t", store)
