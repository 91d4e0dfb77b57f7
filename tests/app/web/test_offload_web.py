"""The Offload page in this process: both kinds of scenario, what it draws of them, and what leads there."""

from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from streamlit.testing.v1 import AppTest

from app.training_figures import held_over_time, tier_memory
from app.web import resources
from app.web.families import OFFLOAD, OFFLOADED_INFERENCE, Family, family_of
from app.web.guard import bare_tables
from app.web.offload_answer import first_window, job_overview, step_overview
from app.web.store import Store
from app.web.url_state import opened, query
from sim.stored_run import AnyRun, StoredOffloadedInference, StoredTraining
from sim.study import load_study
from sim.study_scenario import point_scenario


def show_offload() -> None:
    from app.web import session
    from app.web.pages import offload

    session.enter("offload")
    offload.render()


def html(test: AppTest) -> str:
    return " ".join(element.proto.body for element in test.get("html"))


def shown_run(test: AppTest, family: Family) -> AnyRun:
    assert not test.exception
    assert not test.error
    return resources.store().run(test.session_state[f"{family.name}.answered"])


def test_a_training_and_a_batch_job_are_shown_and_each_is_found_as_it_was_left(app_runs: Path) -> None:
    test = AppTest.from_function(show_offload, default_timeout=60)
    for key, value in {"base": OFFLOAD.default, "model.config": "gpt3-1.3b"}.items():
        test.query_params[key] = value
    test.run()
    step = shown_run(test, OFFLOAD)
    assert isinstance(step, StoredTraining)
    assert "peak of host memory, a rank" in html(test)
    assert "The step waits" in html(test)
    assert all(picture.data for picture in step_overview(step).values())
    for tier in step.summary["offload"]["tiers"].values():  # pools within a tier add up to what it held
        held = held_over_time(tier_memory(step.memory, tier["name"]), 0).sum(axis=1).max()
        assert held == pytest.approx(tier["peak_bytes"])
    assert 0.0 < first_window(step.tasks, 99.0) < step.summary["step_s"]
    turn(test, "inference")
    job = shown_run(test, OFFLOADED_INFERENCE)
    assert isinstance(job, StoredOffloadedInference)
    assert test.query_params == {"base": OFFLOADED_INFERENCE.default}
    assert "the GPU waits for drives" in html(test)
    assert all(picture.data for picture in job_overview(job).values())
    turn(test, "training")
    assert shown_run(test, OFFLOAD).folder == step.folder
    assert test.query_params["model.config"] == "gpt3-1.3b"


def turn(test: AppTest, kind: str) -> None:
    next(group for group in test.get("button_group") if group.label == "beyond a GPU's memory").set_value(kind).run()


@pytest.mark.parametrize(
    ("study", "family"), [("offload/fuyou-2024", OFFLOAD), ("offload/flexgen-2023-drives", OFFLOADED_INFERENCE)]
)
def test_a_study_s_points_open_there(tmp_path: Path, study: str, family: Family) -> None:
    loaded = load_study(study)
    assert loaded.opens
    scenario = point_scenario(loaded, loaded.point[0])
    assert family_of(scenario) is family
    tables = bare_tables(scenario, Store(tmp_path))
    url = urlencode(query(family.default, tables, Store(tmp_path)))
    base, read = opened(dict(parse_qsl(url, keep_blank_values=True)), Store(tmp_path), family)
    assert (base, read) == (family.default, tables)
