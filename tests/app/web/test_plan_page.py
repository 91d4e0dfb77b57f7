"""The Plan page: its question becomes the command line's, and its answer is the command's plan.json."""

from pathlib import Path
from typing import Any

import pytest

from app.web.guard import safe_scenario
from app.web.plans import Question, keep, kept, last_line
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
