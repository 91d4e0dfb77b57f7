"""Pages in this process: what they say and keep, without a browser."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.web import resources
from app.web.pages import PAGES
from app.web.settings import Settings
from app.web.store import Store
from app.web.sweeps import MOST_POINTS, check, example_sweep, keep
from sim.run import run
from sim.scenario_file import load_scenario

EXAMPLE = Path(__file__).parent.parent.parent.parent / "scenarios" / "chat-70b-chunked.toml"
QUICK = {"workload.duration_s": "20"}


def show_serving() -> None:
    from app.web import session
    from app.web.pages import serving

    session.enter("serving")
    serving.render()


def show_compare() -> None:
    from app.web import session
    from app.web.pages import compare

    session.enter("compare")
    compare.render()


def show_sweep() -> None:
    from app.web import session
    from app.web.pages import sweep

    session.enter("sweep")
    sweep.render()


def show_hardware() -> None:
    from app.web import session
    from app.web.pages import hardware

    session.enter("hardware")
    hardware.render()


def show_gallery() -> None:
    from app.web import session
    from app.web.pages import gallery

    session.enter("gallery")
    gallery.render()


def show_fidelity() -> None:
    from app.web import session
    from app.web.pages import fidelity

    session.enter("fidelity")
    fidelity.render()


def leave_and_return(test: AppTest) -> None:
    """Another page was shown meanwhile, and Streamlit has forgotten what widgets held; its links have no parameters."""
    test.session_state["fleetcast.page"] = "gallery"
    test.query_params.clear()
    test.run()
    assert not test.exception


def look(script: Callable[[], None], **parameters: str | list[str]) -> AppTest:
    test = AppTest.from_function(script, default_timeout=60)
    for key, value in parameters.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def number(test: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(field for field in test.number_input if field.label == label)


def html(test: AppTest) -> str:
    return " ".join(element.proto.body for element in test.get("html"))


def errors(test: AppTest) -> str:
    return " ".join(element.value.replace("\\", "") for element in test.error)


def test_every_page_of_the_registry_can_be_shown() -> None:
    import importlib

    for name in PAGES.values():
        module = importlib.import_module(name)
        assert module.TITLE
        assert module.ICON.startswith(":material/")
        assert callable(module.render)


def test_the_url_opens_a_scenario_and_a_knob_changes_the_url(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    assert number(test, "duration, s").value == 20.0
    assert "TTFT p99" in html(test)
    number(test, "max_num_seqs").set_value(16).run()
    assert test.query_params == {
        "base": "chat-70b-chunked",
        "serving.max_num_seqs": "16",
        "workload.duration_s": "20",
    }
    assert len(list((app_runs / "results").iterdir())) == 2


def test_a_policy_brings_its_own_knobs(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    next(box for box in test.selectbox if box.label == "scheduler").select("sarathi").run()
    number(test, "chunk_size").set_value(512).run()
    assert not test.exception
    assert test.query_params["serving.scheduler.chunk_size"] == "512"
    assert "serving.scheduler.tile_aligned" not in test.query_params


def test_requests_come_from_a_generator(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    next(group for group in test.get("button_group") if group.label == "requests from a").set_value("generator").run()
    assert not test.exception
    assert test.query_params["workload.generator.name"] == "synthetic"
    assert test.query_params["workload.trace"] == ""
    assert "synthetic" in html(test)


def test_an_impossible_scenario_keeps_the_last_answer(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    shown = html(test)
    number(test, "max_num_batched_tokens").set_value(100).run()
    assert "scenario: serving.max_num_batched_tokens = 100 is less than serving.max_num_seqs = 256" in errors(test)
    assert html(test) == shown
    number(test, "max_num_batched_tokens").set_value(1024).run()
    assert not test.error


def test_what_does_not_fit_is_the_simulators_sentence(app_runs: Path) -> None:
    test = look(show_serving, **QUICK, **{"serving.tensor_parallel_size": "1"})
    assert "llama-3.1-70b" in errors(test)


@pytest.mark.parametrize(
    ("key", "value"), [("model.config", "/etc/passwd"), ("cluster.node", "../x"), ("workload.trace", "link.csv")]
)
def test_no_url_reads_a_file_of_the_system(app_runs: Path, key: str, value: str) -> None:
    store = Store(app_runs)
    store.uploads.mkdir(parents=True)
    (store.uploads / "link.csv").symlink_to("/etc/passwd")
    test = look(show_serving, **{key: value})
    assert key in errors(test)
    assert "root:" not in errors(test)


def test_a_run_of_the_command_line_is_compared_only_from_inside(app_runs: Path, tmp_path: Path) -> None:
    resources.runner()
    for place in (app_runs / "mine", tmp_path / "outside"):
        run(load_scenario(EXAMPLE, ("workload.duration_s=5",))).write(place)
    test = look(show_compare)
    assert "Nothing to compare yet" in test.info[0].value
    test.text_input[0].set_value("mine")
    next(button for button in test.button if button.label == "Add").click().run()
    assert not test.exception
    assert test.query_params["run"] == "mine"
    test.text_input[0].set_value("../outside")
    next(button for button in test.button if button.label == "Add").click().run()
    assert "is no folder inside" in errors(test)
    assert test.query_params["run"] == "mine"


def test_a_run_that_is_gone_can_be_taken_out(app_runs: Path) -> None:
    test = look(show_compare, run=["0123456789abcdef"])
    assert "is not kept here" in errors(test)
    next(button for button in test.button if button.label == "Remove it").click().run()
    assert not test.error
    assert "run" not in test.query_params


def test_going_back_to_the_bare_page_keeps_what_was_changed_before(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    number(test, "max_num_seqs").set_value(16).run()
    leave_and_return(test)
    url = dict(test.query_params)
    assert url["serving.max_num_seqs"] == "16"
    test.query_params.clear()  # the back button, to the URL that the page's link had
    test.run()
    assert not test.exception
    assert number(test, "max_num_seqs").value == 16
    assert number(test, "duration, s").value == 20.0
    assert test.query_params == url


def test_going_back_to_the_url_that_was_opened_undoes_a_change(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    opened = dict(test.query_params)
    number(test, "max_num_seqs").set_value(16).run()
    test.query_params.clear()
    test.query_params.update(opened)
    test.run()
    assert number(test, "max_num_seqs").value == 256


def test_a_mistake_in_a_link_to_the_page_keeps_what_was_changed_before(app_runs: Path) -> None:
    test = look(show_serving, **QUICK)
    number(test, "max_num_seqs").set_value(16).run()
    test.session_state["fleetcast.page"] = "gallery"
    test.query_params.clear()
    test.query_params["serving.max_num_seq"] = "3"
    test.run()
    assert "did you mean" in errors(test)
    assert number(test, "max_num_seqs").value == 16


def kept_runs(app_runs: Path) -> tuple[str, str, str]:
    resources.runner()
    names = ("one", "two", "three")
    for seed, name in enumerate(names):
        run(load_scenario(EXAMPLE, ("workload.duration_s=5", f"seed={seed}", f"name={name}"))).write(app_runs / name)
    return names


def roles(test: AppTest) -> list[str]:
    return [one.value.replace("\\", "") for one in test.markdown if one.value.startswith(("**A", "**B"))][:2]


def test_only_the_pinned_run_is_called_the_baseline(app_runs: Path) -> None:
    one, two, three = kept_runs(app_runs)
    test = look(show_compare, run=[one, two], baseline=three)
    assert roles(test) == ["**A: one** (the others are set against it)", "**B: two**"]
    assert len([button for button in test.button if button.label == "Make baseline"]) == 2
    next(button for button in test.button if button.key == f"pin-{one}").click().run()
    assert roles(test) == ["**A: one** (baseline)", "**B: two**"]
    assert [button.key for button in test.button if button.label == "Make baseline"] == [f"pin-{two}"]


def test_what_a_sweep_s_form_says_survives_another_page(app_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.job_watch.start", lambda *_: None)
    test = look(show_sweep)
    shown = test.header[0].value
    assert not test.query_params
    fields = {field.label: field for field in test.text_input}
    fields["name"].set_value("mine").run()
    next(field for field in test.text_input if field.label == "values of axis 1").set_value("512, 1024").run()
    next(box for box in test.selectbox if box.label == "method").select("list").run()
    leave_and_return(test)
    assert {field.label: field.value for field in test.text_input}["name"] == "mine"
    assert {field.label: field.value for field in test.text_input}["values of axis 1"] == "512, 1024"
    assert next(box for box in test.selectbox if box.label == "method").value == "list"
    next(field for field in test.text_input if field.label == "name").set_value("again").run()
    leave_and_return(test)
    assert {field.label: field.value for field in test.text_input}["name"] == "again"
    assert test.header[0].value == shown
    assert not test.query_params


def test_a_sweep_of_many_samples_that_constraints_thin_out_can_be_shown(
    app_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.job_watch.start", lambda *_: None)
    test = look(show_sweep)
    test.session_state["sweep.draft"].method = "lhs"
    test.session_state["sweep.draft"].samples = MOST_POINTS + 1000
    test.session_state["sweep.generation"] += 1
    test.run()
    assert not test.exception
    assert number(test, "samples").value == MOST_POINTS + 1000


def test_the_page_without_a_parameter_keeps_to_the_sweep_it_has_shown(
    app_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.job_watch.start", lambda *_: None)
    test = look(show_sweep)
    first = test.header[0].value
    draft = example_sweep(Store(app_runs))
    draft.name = "of another session"
    newer = keep(check(draft.tables(), Store(app_runs), Settings())[0], Store(app_runs))
    test.run()
    assert test.header[0].value == first
    test.query_params["sweep"] = newer.sweep_id
    test.run()
    assert test.header[0].value == "of another session"
    test.query_params.clear()  # the back button
    test.run()
    assert test.header[0].value == first


@pytest.mark.parametrize("kind", ["cpu", "ssd", "nic", "link", "node"])
def test_every_kind_of_hardware_can_be_compared(app_runs: Path, kind: str) -> None:
    test = look(show_hardware, view="compare", what=kind)
    assert len(test.dataframe) + len(test.get("arrow_data_frame")) >= 1


def test_a_model_that_does_not_fit_a_copy_is_a_sentence(app_runs: Path) -> None:
    test = look(show_hardware, view="edit a copy", hbm="2", node="l4-1x")
    said = " ".join(
        str(element.value) for element in (*test.warning, *test.info, *test.caption, *test.markdown, *test.error)
    )
    assert re.search("llama-3.1-70b.*on l4", said.replace("\\", ""))


def test_an_unknown_study_or_point_in_the_url_falls_back_to_the_choice(app_runs: Path) -> None:
    assert "Published results, simulated" in " ".join(
        one.value for one in look(show_gallery, study="nothing", point="none").header
    )


@pytest.mark.parametrize(("device", "said"), [("h100-sxm", "meet their targets"), ("links", "links and libraries")])
def test_fidelity_of_a_device_opens_from_the_url(app_runs: Path, device: str, said: str) -> None:
    test = look(show_fidelity, device=device, family="serving")
    shown = html(test) + " ".join(one.value for one in (*test.markdown, *test.caption, *test.subheader))
    assert said in shown


def test_an_unknown_sweep_in_the_url_is_said(app_runs: Path) -> None:
    assert "sweep 0123456789abcdef: is not kept here" in errors(look(show_sweep, sweep="0123456789abcdef"))
