"""The copy editor in this process: what it keeps, what it offers, and what it says of the same on a command line."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from app.cli import cli
from app.web.hardware_copy import command_line, is_kept
from app.web.own_hardware import remove_copy, save_copy
from app.web.store import Store
from hardware_models import catalog
from hardware_models.variation import parse_change

TWICE = [parse_change("gpu.memory_bytes=2x")]


def show_hardware() -> None:
    from app.web import resources, session
    from app.web.pages import PAGES, hardware

    session.enter("hardware")
    resources.runner()
    assert PAGES
    hardware.render()


@pytest.fixture
def store(app_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of an app without a frame: links to other pages need one, and are written as text."""
    import streamlit as st

    monkeypatch.setattr(
        "app.web.hardware_copy.open_page", lambda path, parameters, label: st.markdown(f"link: {label}")
    )
    return Store(app_runs)


def edit(**parameters: str) -> AppTest:
    test = AppTest.from_function(show_hardware, default_timeout=60)
    for key, value in {"view": "edit a copy", **parameters}.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    return " ".join(str(part.value) for part in (*test.markdown, *test.caption, *test.code, *test.error))


def button(test: AppTest, label: str) -> Any:
    return next(one for one in test.button if one.label == label)


def view(test: AppTest, name: str) -> AppTest:
    next(group for group in test.get("button_group") if group.label == "view").set_value(name).run()
    assert not test.exception
    return test


def test_the_name_and_the_written_changes_survive_another_view(store: Store) -> None:
    test = edit()
    test.text_input(key="copy-name").set_value("mine").run()
    test.session_state["hardware.written"]["dgx-h100"]["gpu.sm_count"] = "264"
    view(test, "look up")
    view(test, "edit a copy")
    assert test.text_input(key="copy-name").value == "mine"
    assert "--copy-to mine.toml --set gpu.sm_count=264" in said(test)
    test.run()
    assert "--set gpu.sm_count=264" in said(test)
    assert not test.warning


def test_only_what_is_kept_is_offered_for_simulation(store: Store) -> None:
    test = edit(hbm="2")
    test.text_input(key="copy-name").set_value("foo").run()
    button(test, "Save the copy").click().run()
    assert said(test).count("link: Simulate foo") == 2  # beside the answer, and in the list of copies
    test.number_input(key="hbm").set_value(3.0).run()
    assert said(test).count("link: Simulate foo") == 1
    assert "save first" in said(test)
    button(test, "Replace the copy of that name").click().run()
    assert said(test).count("link: Simulate foo") == 2


def test_a_copy_replaced_by_itself_takes_its_changes_once(store: Store) -> None:
    save_copy("dgx-h100", "mine", TWICE, store)
    test = edit(node="mine.toml", hbm="2")
    test.text_input(key="copy-name").set_value("mine").run()
    button(test, "Replace the copy of that name").click().run()
    assert test.number_input(key="hbm").value == 1.0
    assert button(test, "Replace the copy of that name").disabled
    assert "fleetcast catalog" not in said(test)
    assert not test.warning
    assert said(test).count("link: Simulate mine") == 2
    test.run()
    assert test.number_input(key="hbm").value == 1.0
    gpu = catalog.gpu(catalog.node(str(store.hardware / "mine.toml")).gpu)
    assert gpu.memory_bandwidth_bytes_per_s == 6.7e12
    test.number_input(key="hbm").set_value(1.5).run()
    assert "gpu.memory_bandwidth_bytes_per_s=1.5x" in said(test)


def test_a_copy_that_another_session_removed_is_a_sentence(store: Store) -> None:
    save_copy("dgx-h100", "gone", TWICE, store)
    test = edit()
    remove_copy("gone.toml", store)
    button(test, "Remove").click().run()
    assert not test.exception
    assert "gone" in " ".join(error.value for error in test.error)
    test.run()
    assert not test.error


def test_an_unreadable_copy_can_still_be_removed(store: Store) -> None:
    save_copy("dgx-h100", "broken", TWICE, store)
    (store.hardware / "broken.toml").write_text("gpus = ")
    test = edit(node="broken.toml")
    assert "broken" in said(test)
    button(test, "Remove").click().run()
    assert not (store.hardware / "broken.toml").exists()


def test_gpus_have_one_link_to_change_and_the_network_says_when_it_matters(store: Store) -> None:
    labels = {field.label for field in edit().number_input}
    assert "GPU to GPU link" in labels
    assert "PCIe" not in labels
    assert "network (matters across nodes)" in labels
    labels = {field.label for field in edit(node="l4-8x").number_input}
    assert "PCIe" in labels
    assert "GPU to GPU link" not in labels


def test_the_command_line_writes_the_same_copy_from_a_copy_and_from_the_catalog(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_copy("dgx-h100", "first", TWICE, store)
    monkeypatch.chdir(tmp_path)
    changes = [parse_change("gpu.memory_bandwidth_bytes_per_s=1.2345678x")]
    for original, name in (("first.toml", "second"), ("dgx-h100", "third")):
        words = shlex.split(command_line(original, name, changes, store))
        result = CliRunner().invoke(cli, words[1:])
        assert result.exit_code == 0, result.output
        save_copy(original, name, changes, store)
        for file in (f"{name}.toml", f"{name}/gpu.toml"):
            assert (tmp_path / file).read_bytes() == (store.hardware / file).read_bytes()
        assert is_kept(original, name, changes, store)
        assert not is_kept(original, name, [], store)


def test_a_name_cannot_add_to_the_command_line(store: Store) -> None:
    words = shlex.split(command_line("dgx-h100", "a; rm -rf x", TWICE, store))
    assert words[4:6] == ["--copy-to", "a; rm -rf x.toml"]
