"""The Training page in this process: what it says and keeps, without a browser."""

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.web import resources
from app.web.draft import Draft
from app.web.examples import DEFAULT, all_example_names, example_names
from app.web.families import FAMILIES, OFFLOADED_INFERENCE, POWER, SERVING, TRAINING, family_of
from app.web.forms.choices import registry
from app.web.forms.knobs import scenario_groups
from app.web.gallery_point import FIRST_KNOBS
from app.web.guard import safe_any, safe_scenario
from app.web.pages.compare import SURE
from app.web.pages.training import without_check
from app.web.runner import Run
from app.web.scenario_box import take_over
from app.web.store import Store
from app.web.sweep_draft import SweepDraft, axis_keys
from app.web.sweep_form import CONSTRAINTS, GOALS, LIMITS
from app.web.training_answer import asked_toml, step_trace, training_cards
from app.web.url_state import full_example, opened, query
from app.web.waiting import progress_text
from hardware_models.errors import FleetcastError
from sim.scenario_file import load_any
from sim.stored_run import StoredTraining
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

SCENARIOS = Path(__file__).parents[3] / "scenarios"
SMALL = {
    "model.config": "gpt3-1.3b",
    "training.pipeline_parallel_size": "4",
    "training.schedule.chunks": "2",
    "training.global_batch_size": "16",
}
FULL = {"training.recompute.name": "none", "training.schedule.name": "1f1b", "training.schedule.chunks": ""}


def show_training() -> None:
    from app.web import session
    from app.web.pages import training

    session.enter("training")
    training.render()


def look(**parameters: str) -> AppTest:
    test = AppTest.from_function(show_training, default_timeout=60)
    for key, value in parameters.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def number(test: AppTest, label: str) -> Any:
    return next(field for field in test.number_input if field.label == label)


def html(test: AppTest) -> str:
    return " ".join(element.proto.body for element in test.get("html"))


def errors(test: AppTest) -> str:
    return " ".join(element.value.replace("\\", "") for element in test.error)


def captions(test: AppTest) -> str:
    return " ".join(element.value.replace("\\", "") for element in test.caption)


def kept(folder: Path, **training: Any) -> StoredTraining:
    tables = full_example(TRAINING.default, Store(folder))
    tables["training"] |= training
    scenario = TrainingScenario.model_validate(tables)
    run_training(scenario).write(folder / "kept")
    run = Store(folder).run("kept")
    assert isinstance(run, StoredTraining)
    return run


def test_each_kind_of_page_lists_its_own_examples_and_opens_on_its_default() -> None:
    for family in FAMILIES:
        names = example_names(family)
        assert names[0] == family.default
    assert not set(example_names(SERVING)) & set(example_names(TRAINING))
    assert example_names()[0] == DEFAULT
    assert len(all_example_names()) == sum(len(example_names(family)) for family in FAMILIES)


def test_every_important_key_is_a_key_of_its_kind() -> None:
    for family in FAMILIES:
        known = {knob.key for group in scenario_groups(family.model) for knob in group.knobs}
        assert set(family.important) <= known


def test_the_form_s_policies_are_those_of_the_registries_and_every_knob_has_a_description() -> None:
    knobs = {knob.key: knob for group in scenario_groups(TrainingScenario) for knob in group.knobs}
    for key in ("training.schedule", "training.sharding", "training.recompute"):
        assert knobs[key].kind == "policy"
        assert len(registry(key, knobs[key].family)) > 2
    assert [key for key, knob in knobs.items() if not knob.description and "." in key] == []


def test_the_page_opens_on_a_finished_example_without_a_blank_form(app_runs: Path) -> None:
    test = look()
    assert test.header[0].value.replace("\\", "") == TRAINING.default
    assert "of the step goes to" in html(test)
    assert "memory of the fullest GPU" in html(test)
    assert not test.error
    assert len(list((app_runs / "results").iterdir())) == 1


def test_a_knob_changes_the_step_and_the_url_and_shows_the_change(app_runs: Path) -> None:
    test = look()
    before = html(test)
    number(test, "global_batch_size").set_value(96).run()
    assert not test.exception
    assert test.query_params == {"base": TRAINING.default, "training.global_batch_size": "96"}
    assert html(test) != before
    assert "better" in html(test) or "worse" in html(test) or "within error bars" in html(test)
    assert "Changes are against the baseline" in captions(test)


def test_a_link_opens_a_plan_with_its_policy_s_own_knobs(app_runs: Path) -> None:
    test = look(**SMALL)
    assert number(test, "chunks").value == 2
    next(box for box in test.selectbox if box.label == "schedule").select("gpipe").run()
    assert not test.exception
    assert test.query_params["training.schedule.name"] == "gpipe"
    assert test.query_params["training.schedule.chunks"] == ""


def test_a_plan_that_does_not_fit_gets_the_command_s_sentence_and_its_pictures(app_runs: Path) -> None:
    test = look(**FULL)
    scenario = load_any(SCENARIOS / f"{TRAINING.default}.toml", ("training.recompute=none", "training.schedule=1f1b"))
    assert isinstance(scenario, TrainingScenario)
    with pytest.raises(FleetcastError) as refused:
        run_training(scenario)
    assert errors(test) == str(refused.value)
    assert "activations" in errors(test)
    assert "if the memory were there" in captions(test)
    assert "does not fit" in html(test)
    assert "the plan does not fit" not in captions(test)  # it has been said


def test_a_plan_that_does_not_fit_is_no_mistake_where_nobody_asks(app_runs: Path) -> None:
    test = look(**FULL, **{"training.check_memory": "false"})
    assert not test.error
    assert "the plan does not fit" in captions(test)


def test_a_plan_that_cannot_be_keeps_the_last_answer(app_runs: Path) -> None:
    test = look(**SMALL)
    shown = html(test)
    number(test, "pipeline_parallel_size").set_value(7).run()
    assert not test.exception
    assert "pipeline_parallel_size = 7" in errors(test)
    assert html(test) == shown
    assert "Below is the last answer" in captions(test)


def test_another_model_is_not_set_against_the_baseline(app_runs: Path) -> None:
    test = look()
    next(box for box in test.selectbox if box.label == "config").select("gpt-22b").run()
    assert not test.exception
    assert "trains another model" in captions(test)


def test_a_serving_scenario_is_sent_to_its_own_page(app_runs: Path) -> None:
    test = look(base=DEFAULT)
    assert "is a scenario of serving; open it on the Serving page" in errors(test)
    store = Store(app_runs)
    draft = Draft.of_example(TRAINING.default, store)
    text = (SCENARIOS / f"{DEFAULT}.toml").read_bytes()
    with pytest.raises(FleetcastError, match=r"mine.toml: is a scenario of serving; open it on the Serving page"):
        take_over(text, "mine.toml", draft, store, 100_000)


def test_a_url_says_what_differs_from_its_example_and_opens_it_again(app_runs: Path) -> None:
    store = Store(app_runs)
    tables = full_example(TRAINING.default, store)
    assert query(TRAINING.default, tables, store) == {"base": TRAINING.default}
    tables["training"]["micro_batch_size"] = 2
    parameters = query(TRAINING.default, tables, store)
    assert parameters == {"base": TRAINING.default, "training.micro_batch_size": "2"}
    assert opened(parameters, store, TRAINING) == (TRAINING.default, tables)


def test_no_plan_reads_a_file_of_the_system(app_runs: Path) -> None:
    store = Store(app_runs)
    tables = full_example(TRAINING.default, store)
    tables["cluster"]["node"] = "/etc/passwd"
    with pytest.raises(FleetcastError, match="reads no files but its own"):
        safe_any(tables, "scenario", store)
    with pytest.raises(FleetcastError, match="unknown key"):  # where only serving is asked for
        safe_scenario(full_example(TRAINING.default, store), "scenario", store)


def test_what_runs_is_the_plan_without_the_check_and_what_is_saved_has_it(tmp_path: Path) -> None:
    scenario = safe_any(full_example(TRAINING.default, Store(tmp_path)), "scenario", Store(tmp_path))
    assert isinstance(scenario, TrainingScenario)
    ran = without_check(scenario)
    assert isinstance(ran, TrainingScenario)
    assert not ran.training.check_memory
    run = kept(tmp_path, check_memory=False)
    saved = tomllib.loads(asked_toml(run, {"training": {"check_memory": True}}))
    assert TrainingScenario.model_validate(saved) == scenario


def test_the_card_of_memory_says_what_there_is(tmp_path: Path) -> None:
    cards = {card.title: card for card in training_cards(kept(tmp_path).summary)}
    assert cards["memory.peak_bytes"].note == "of 80.9 GB"
    assert cards["step_s"].note.startswith("90 %: ")
    assert cards["memory.peak_bytes"].unit == "GB"


def test_the_trace_of_a_kept_run_is_one_that_perfetto_opens(tmp_path: Path) -> None:
    run = kept(tmp_path)
    trace = json.loads(gzip.decompress(step_trace(run)))
    assert trace["displayTimeUnit"] == "ms"
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == int((run.tasks["device"] >= 0).sum())
    lanes: dict[tuple[int, int], float] = {}
    for event in slices:  # in order of time; no slice reaches into the next of its lane
        place = (event["pid"], event["tid"])
        assert event["ts"] >= lanes.get(place, 0.0) - 1e-3
        lanes[place] = event["ts"] + event["dur"]
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X", "C"}


def test_a_sweep_s_form_offers_the_keys_of_its_kind() -> None:
    assert "training.schedule.name" in axis_keys(TRAINING)
    assert "serving.max_num_seqs" not in axis_keys(TRAINING)
    tables = {"axes": {"training.micro_batch_size": [1, 2]}}
    draft = SweepDraft.of_tables(tables, full_example(TRAINING.default, Store(Path("runs"))))
    assert draft.metric == "tokens_per_s_per_gpu"
    assert family_of(draft.base) is TRAINING
    assert {"power.training.nodes", "power.scaler.name"} <= set(axis_keys(POWER))
    base = full_example(OFFLOADED_INFERENCE.default, Store(Path("runs")))
    found = set(axis_keys(OFFLOADED_INFERENCE, base))
    assert {"offload.rates.h2d_bytes_per_s", "offload.policy.name", "offload.policy.gpu_batch_size"} <= found
    for words in (GOALS, LIMITS, CONSTRAINTS, FIRST_KNOBS, SURE):
        assert set(words) == {family.name for family in FAMILIES}


def test_while_a_step_is_simulated_the_page_says_so() -> None:
    run = Run("0123456789abcdef", TRAINING)
    run.state = "running"
    assert progress_text(run).startswith("simulating the step, ")


def test_pages_of_two_kinds_have_baselines_of_their_own(app_runs: Path) -> None:
    test = look()
    assert test.session_state["fleetcast.baseline.training"]
    assert "fleetcast.baseline.serving" not in test.session_state
    assert resources.store().run(test.session_state["fleetcast.baseline.training"]).summary["kind"] == "training"


def show_sweep() -> None:
    from app.web import session
    from app.web.pages import sweep

    session.enter("sweep")
    sweep.render()


def test_a_plan_can_be_the_base_of_a_sweep(app_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.job_watch.start", lambda *_: None)
    test = AppTest.from_function(show_sweep, default_timeout=60).run()
    assert not test.exception
    next(box for box in test.selectbox if box.label == "scenario").select(TRAINING.default).run()
    assert not test.exception
    boxes = {box.label: box for box in test.selectbox}
    assert boxes["axis 1"].value == ""
    assert boxes["metric"].value == "step_s"
    boxes["axis 1"].select("training.pipeline_parallel_size").run()
    next(field for field in test.text_input if field.label == "values of axis 1").set_value("4, 8").run()
    assert not test.exception
    assert not test.error
    assert next(button for button in test.button if button.key == "start").label == "Start 2 points"
