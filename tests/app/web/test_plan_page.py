"""The Plan page: its question becomes the command line's, and its answer is the command's plan.json."""

from pathlib import Path
from typing import Any

import pytest
from browser_steps import card, settle, shoot
from row_plan import FOUND
from streamlit.testing.v1 import AppTest

from app.plan_training_figures import scatters, step_against
from app.web.families import TRAINING
from app.web.guard import safe_any, safe_scenario
from app.web.jobs import Job, write_json
from app.web.plans import Question, RowQuestion, TrainingQuestion, keep, kept, last_line
from app.web.store import Store
from app.web.url_state import full_example
from hardware_models.errors import FleetcastError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def example(store: Store, **workload: Any):
    tables = full_example("chat-70b-chunked", store)
    tables["workload"] |= workload
    return safe_scenario(tables, "scenario", store)


def test_a_question_is_the_commands(store: Store) -> None:
    question = Question(rate_per_s=2.5, minimize="gpus", nodes=("dgx-h100", "l40s-8x"), sizes=(4, 8))
    assert question.arguments(store) == [
        "--minimize", "gpus", "--rate", "2.5", "--nodes", "dgx-h100,l40s-8x", "--tp", "4,8",
    ]  # fmt: skip
    assert Question().arguments(store) == ["--minimize", "cost"]
    assert Question(kind="capacity", rate_per_s=3.0).arguments(store) == ["--capacity"]


def test_a_question_of_training_is_the_commands(store: Store) -> None:
    assert TrainingQuestion().arguments(store) == ["--free", "all"]
    question = TrainingQuestion(gpus="64, 128", kept=("recompute",), tensor="4,8", sharding=("zero1",))
    found = question.arguments(store)
    assert found[-3:] == ["--gpus=64,128", "--tp=4,8", "--sharding=zero1"]
    assert "recompute" not in found
    assert found.count("--free") == len(found[:-3]) // 2
    assert TrainingQuestion(schedules=("zb_h1", "1f1b")).arguments(store)[-1] == "--schedules=zb_h1,1f1b"


def test_a_question_of_a_row_is_the_commands(store: Store) -> None:
    assert RowQuestion().arguments(store) == ["--oversubscribe", "--seeds=3", "--confirm=3"]
    allow = (("high_p99", "5 %"), ("brakes_per_h", "1"))
    question = RowQuestion(allow=allow, policies=("polca", "brake_only"), built_for=40, confirm=0)
    assert question.arguments(store)[3:] == [
        "--allow=high_p99=5%", "--allow=brakes_per_h=1", "--policies=polca,brake_only", "--built-for=40",
    ]  # fmt: skip


def show_plan() -> None:
    from app.web.pages import plan

    plan.render()


def test_a_row_s_question_is_asked_and_its_plan_is_shown(app_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("app.web.job_watch.start", lambda command, *_: asked.append(command))
    plan, _ = keep(safe_any(full_example("inference-row-polca", Store(app_runs)), "x", Store(app_runs)), RowQuestion(),
                   Store(app_runs))  # fmt: skip
    plan.out.mkdir()
    (plan.out / "report.html").write_text("")
    write_json(plan.out / "plan.json", FOUND)
    write_json(plan.job_folder / "job.json", {"arguments": [], "pid": 0, "started_unix_s": 0.0, "time_limit_s": 1.0})
    write_json(plan.job_folder / "done.json", {"state": "finished", "exit_code": 0, "elapsed_s": 1.0})
    test = AppTest.from_function(show_plan, default_timeout=60)
    test.query_params["plan"] = plan.plan_id
    test.run()
    assert not test.exception
    shown = " ".join(element.proto.body for element in test.get("html"))
    assert "44 servers under polca, where the breaker was built for 40." in shown
    assert "Next to bind, with 45: rise of low priority&#x27;s p99 60 %" in shown
    assert '<td style="min-width:3rem">45</td><td style="white-space:nowrap">+12</td>' in shown
    assert "&lt;no&gt;" in shown
    next(field for field in test.number_input if field.label == "rise of low priority's p99, %").set_value(20.0).run()
    next(button for button in test.button if button.label == "Plan").click().run()
    assert not test.exception
    assert asked[-1][2:-2] == [
        "--oversubscribe", "--seeds=1", "--confirm=1", "--allow=low_p99=20%", "--policies=brake_only",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["/etc/passwd", "../mine.toml", "--json", "dgx-h101"])
def test_no_other_node_is_asked_for(store: Store, name: str) -> None:
    with pytest.raises(FleetcastError):
        keep(example(store), Question(nodes=(name,)), store)


def test_the_same_question_is_found_again(store: Store) -> None:
    first, command = keep(example(store), Question(), store)
    assert keep(example(store), Question(), store)[0] == first == kept(store, first.plan_id)
    assert keep(example(store), Question(kind="capacity"), store)[0] != first
    assert keep(example(store, duration_s=60.0), Question(), store)[0] != first
    assert command[:2] == ["plan", str(first.job_folder / "scenario.toml")]
    assert first.found is None
    assert not first.running


@pytest.mark.parametrize("plan_id", ["../../etc", "0" * 16, ""])
def test_no_other_place_passes_for_a_plan(store: Store, plan_id: str) -> None:
    with pytest.raises(FleetcastError):
        kept(store, plan_id)


def test_the_last_word_of_a_search_is_shown() -> None:
    assert last_line("") == "starting"
    assert last_line("1 of 3\n2 of 3\n\n") == "2 of 3"


def test_a_plan_is_searched_shown_and_opened(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/plan")
    page.wait_for_selector(".fc-bottleneck")
    page.get_by_text("Every candidate, and why it lost").wait_for()
    plan = kept(server.store, page.url.partition("plan=")[2])
    assert plan.found is not None
    best = plan.found["candidates"][0]
    assert page.locator(".fc-bottleneck").inner_text().startswith(f"{best['nodes']} x {best['node']}")
    assert look.complaints == []
    page.get_by_text("Open the answer in Serving").click()
    page.wait_for_url("**/serving**")


def test_a_training_plan_is_shown_with_its_flags_and_opens(server: Any, page: Any, look: Any) -> None:
    tables = full_example("gpt-175b-64xa100", server.store)
    tables["model"], tables["cluster"]["nodes"] = {"config": "gpt3-1.3b"}, 1
    question = TrainingQuestion(gpus="8,16", tensor="1,2", pipeline="1,2", micro_batches="1,2")
    plan, command = keep(safe_any(tables, "scenario", server.store), question, server.store)
    Job.start(command, plan.job_folder)
    page.goto(f"{server.url}/plan?plan={plan.plan_id}")
    page.get_by_text("What trains fastest?").wait_for()
    page.get_by_text("Flags of Megatron-LM for the answer").wait_for()
    settle(page)
    found = plan.found
    assert found is not None
    assert plan.family is TRAINING
    assert page.locator(".fc-bottleneck").first.inner_text() == found["best"][0]["plan"]
    assert float(card(page, "memory of the fullest GPU")) == round(found["best"][0]["peak_bytes"] / 1e9, 1)
    assert page.locator(".fc-wide tr").count() >= len(found["best"]) + len(found["losers"])
    shoot(page, "plan-training")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Flags (text)").click()
    assert Path(waiting.value.path()).read_text().split(" \\\n") == [
        *found["megatron_flags"][:-1],
        found["megatron_flags"][-1] + "\n",
    ]
    assert scatters(found) == ["memory", "energy", "GPUs"]
    for name in scatters(found):
        drawn = {trace.name: trace for trace in step_against(found, name).data}
        assert drawn["the answer"].x[0] == found["best"][0]["step_s"]
    assert look.complaints == []
    page.get_by_text("Open the answer in Training").click()
    page.wait_for_url("**/training**")
