"""The app as a user meets it: the real command, a real browser."""

import re
from pathlib import Path
from typing import Any

import pytest
from browser_steps import PHONE, card, card_changes, card_shows, open_page, set_number, settle, shoot

from app.web.pages import PAGES
from app.web.store import RUN_ID

SECONDS_FOR_ALL = 36_000  # of traffic: far more than anybody waits for


@pytest.mark.parametrize("path", PAGES)
def test_each_page_opens_without_an_error_and_fits_a_phone(server: Any, page: Any, look: Any, path: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{server.url}/{path}")
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h1, [data-testid="stMainBlockContainer"] h2')
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shoot(page, f"{path}-phone")
    assert page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]').count() == 0
    assert look.complaints == []


def test_the_app_opens_on_a_finished_example_whose_files_come_down(server: Any, page: Any, look: Any) -> None:
    open_page(page, server.url)
    assert page.get_by_text("chat-70b-chunked", exact=True).first.is_visible()
    assert page.locator(".fc-bottleneck").inner_text().startswith("Memory")
    assert float(card(page, "TTFT p99").replace(",", "")) > 0
    page.get_by_role("tab", name="Files").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="report.html").click()
    report = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert report.startswith("<!doctype html>")
    assert "chat-70b-chunked" in report
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Scenario (TOML)").click()
    assert 'config = "llama-3.1-70b"' in Path(waiting.value.path()).read_text()
    assert look.complaints == []


def test_a_knob_changes_the_answer_and_the_url_and_a_fresh_browser_finds_it_there(
    server: Any, page: Any, context: Any
) -> None:
    open_page(page, server.url)
    before = card(page, "TTFT p99")
    set_number(page, "max_num_seqs", 24)
    after = card_changes(page, "TTFT p99", before)
    assert "better" in page.locator(".fc-cards").inner_text() or "worse" in page.locator(".fc-cards").inner_text()
    page.wait_for_url(re.compile(r"base=chat-70b-chunked&serving\.max_num_seqs=24$"))
    other = context.new_page()
    open_page(other, page.url)
    assert card(other, "TTFT p99") == after
    other.close()
    page.go_back()
    assert card_changes(page, "TTFT p99", after) == before


def test_a_bad_file_gets_the_command_lines_sentence_and_a_good_one_its_answer(
    server: Any, page: Any, tmp_path: Path
) -> None:
    open_page(page, server.url)
    text = '[model]\nconfig = "llama-3.1-8b"\n[cluster]\nnode = "dgx-h100"\n[workload]\ntrace = "azure-conv-2023"\n'
    bad, good = tmp_path / "bad.toml", tmp_path / "good.toml"
    bad.write_text(text + "rate_scal = 2.0\n")
    good.write_text('name = "mine"\n' + text + "duration_s = 60\n")
    page.get_by_role("button", name="Scenario file").click()
    page.set_input_files('[data-testid="stFileUploaderDropzoneInput"] >> nth=0', str(bad))
    page.get_by_text("bad.toml: unknown key 'workload.rate_scal'; did you mean 'workload.rate_scale'?").wait_for()
    page.set_input_files('[data-testid="stFileUploaderDropzoneInput"] >> nth=0', str(good))
    page.get_by_role("heading", name="mine").wait_for()
    settle(page)
    assert "llama-3.1-8b" in page.locator(".fc-line").first.inner_text()


def test_a_long_simulation_shows_progress_and_stops(server: Any, page: Any) -> None:
    page.goto(f"{server.url}/?workload.duration_s={SECONDS_FOR_ALL}&workload.rate_scale=4")
    page.get_by_text("requests simulated").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    page.get_by_role("button", name="Run again").wait_for()


def test_runs_are_compared_and_the_url_of_it_can_be_shared(server: Any, page: Any, context: Any, look: Any) -> None:
    page.goto(f"{server.url}/compare")
    page.get_by_role("button", name="Compare the two shipped scenarios").click()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)
    assert page.get_by_text("points", exact=False).first.is_visible()
    assert "x19" in page.locator(".fc-wide").nth(1).inner_text()
    shared = page.url
    assert len(RUN_ID.findall(shared)) == 3  # two runs, one of them the baseline as well
    shoot(page, "compare-filled")
    other = context.new_page()
    other.goto(shared)
    other.wait_for_selector(".js-plotly-plot .main-svg")
    assert other.locator(".fc-wide").nth(1).inner_text() == page.locator(".fc-wide").nth(1).inner_text()
    other.close()
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing to compare yet").wait_for()
    assert look.complaints == []


CHANGED_SERVING = re.compile(r"/(serving)?\?.*serving\.max_num_seqs=2")


def test_the_back_button_leaves_no_change_behind(server: Any, page: Any) -> None:
    open_page(page, f"{server.url}/?workload.duration_s=20")
    before = card(page, "TTFT p99")
    set_number(page, "max_num_seqs", 2)
    changed = card_changes(page, "TTFT p99", before)
    page.get_by_role("link", name="Sweep").first.click()
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h2')
    settle(page)
    page.get_by_role("link", name="Serving").first.click()
    page.wait_for_url(CHANGED_SERVING)
    settle(page)
    card_shows(page, "TTFT p99", changed)
    go_back_to(page, re.compile(r"/sweep(\?|$)"))
    go_back_to(page, CHANGED_SERVING)
    card_shows(page, "TTFT p99", changed)


def go_back_to(page: Any, url: re.Pattern[str]) -> None:
    """Press Back until the address is of a kind; a page may leave two addresses that mean the same."""
    for _ in range(3):
        page.go_back()
        settle(page)
        if url.search(page.url):
            return
    raise AssertionError(f"three presses of Back led to {page.url}")
