"""A study of training in the Gallery: its points open on the Training page, its knobs are a plan's."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.validation import Validation
from app.web import gallery_point
from app.web.families import TRAINING
from app.web.jobs import Job
from app.web.store import Store
from app.web.url_state import opened
from sim.study import run_study

STUDY, POINT = "training/korthikanti-2022", "22B, full recomputation: iteration"


def show_gallery() -> None:
    from app.web.pages import gallery

    gallery.render()


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the results of this one point had been shipped."""
    results = Validation.now(run_study(STUDY, (POINT,)))
    monkeypatch.setattr("app.web.pages.gallery.read_validation", lambda: results)
    st.cache_data.clear()
    yield
    st.cache_data.clear()


def look(**parameters: str) -> AppTest:
    test = AppTest.from_function(show_gallery, default_timeout=60)
    for key, value in {"study": STUDY, "point": POINT, **parameters}.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    assert not test.error
    return test


@pytest.mark.usefixtures("shipped")
def test_a_point_of_training_opens_on_the_training_page(app_runs: Path) -> None:
    links = [element.proto for element in look().get("page_link")]
    link = next(one for one in links if one.label == "Open as a scenario")
    assert link.page.endswith("training")
    parameters = {key: values[0] for key, values in parse_qs(link.query_string, keep_blank_values=True).items()}
    base, tables = opened(parameters, Store(app_runs), TRAINING)
    assert base == TRAINING.default
    assert tables["training"]["recompute"] == {"name": "full"}
    assert tables["model"]["config"] == "gpt-22b"


@pytest.mark.usefixtures("shipped")
def test_a_plan_s_knob_is_changed_and_simulated(app_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(Job, "start", lambda arguments, *_: started.append(arguments))
    test = look(**{gallery_point.KNOB: "training.global_batch_size"})
    next(field for field in test.number_input if field.label == "global_batch_size").set_value(8).run()
    next(button for button in test.button if button.label == "Simulate with this").click().run()
    assert not test.exception
    assert started == [["validate", STUDY, "--point", POINT, "--set", "training.global_batch_size=8", "--json"]]


@pytest.mark.usefixtures("shipped")
def test_a_knob_of_another_kind_in_the_url_gives_way_to_the_first_of_this(app_runs: Path) -> None:
    test = look(**{gallery_point.KNOB: "serving.max_num_seqs"})
    assert next(box for box in test.selectbox if box.label == "knob").value == "training.framework"
