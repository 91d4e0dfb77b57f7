"""The Training page as a user meets it: the real command, a real browser."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

from browser_steps import PHONE, card, card_changes, open_page, set_number, settle, shoot

DOES_NOT_FIT = "training.recompute.name=none&training.schedule.name=1f1b&training.schedule.chunks="
TABS = ("Overview", "Timeline", "Memory", "Power", "Tasks", "Files")


def test_every_tab_shows_without_an_error_and_fits_a_phone(server: Any, page: Any, look: Any) -> None:
    page.set_viewport_size(PHONE)
    open_page(page, f"{server.url}/training")
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        settle(page)
        assert page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]').count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        shoot(page, f"training-{tab.lower()}-phone")
    page.get_by_role("tab", name="Files").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Perfetto trace").click()
    trace = json.loads(gzip.decompress(Path(waiting.value.path()).read_bytes()))
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X", "C"}
    assert all(event["dur"] >= 0 for event in trace["traceEvents"] if event["ph"] == "X")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Scenario (TOML)").click()
    assert "check_memory = true" in Path(waiting.value.path()).read_text()
    assert look.complaints == []


def test_a_knob_changes_the_step_and_the_url_and_back_undoes_it(server: Any, page: Any, context: Any) -> None:
    open_page(page, f"{server.url}/training")
    before = card(page, "step")
    set_number(page, "global_batch_size", 128)
    after = card_changes(page, "step", before)
    assert float(after) > 1.5 * float(before)
    page.wait_for_url(re.compile(r"base=gpt-175b-64xa100&training\.global_batch_size=128$"))
    assert page.get_by_text("Changes are against the baseline").is_visible()
    shoot(page, "training-changed")
    other = context.new_page()
    open_page(other, page.url)
    assert card(other, "step") == after
    other.close()
    page.go_back()
    assert card_changes(page, "step", after) == before


def test_a_plan_that_does_not_fit_shows_the_sentence_and_the_pictures(server: Any, page: Any, look: Any) -> None:
    open_page(page, f"{server.url}/training?{DOES_NOT_FIT}")
    said = page.locator('[data-testid="stAlertContentError"]').inner_text()
    assert re.search(r"pipeline stage 0 holds [\d.]+ GB after [\d.]+ s \(activations [\d.]+ GB, ", said)
    assert "tensors of a GPU may take 80.9 GB" in said
    assert float(card(page, "memory of the fullest GPU")) > 80.9
    assert page.locator(".js-plotly-plot").count() >= 3
    shoot(page, "training-does-not-fit")
    assert look.complaints == []


def test_plans_are_compared(server: Any, page: Any, look: Any) -> None:
    open_page(page, f"{server.url}/training")
    before = card(page, "step")
    page.get_by_role("button", name="Add to comparison").click()
    settle(page)
    set_number(page, "micro_batch_size", 2)
    card_changes(page, "step", before)
    page.get_by_role("button", name="Add to comparison").click()
    page.get_by_role("button", name="In the comparison").wait_for()
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_text("Time of a step").wait_for()
    settle(page)
    assert page.get_by_text("the step takes", exact=False).first.is_visible()
    assert "training.micro_batch_size" in page.locator(".fc-wide").first.inner_text()
    shoot(page, "training-compared")
    assert look.complaints == []


def test_a_sweep_of_plans_is_started_and_its_best_opens_here(server: Any, page: Any, look: Any) -> None:
    open_page(page, f"{server.url}/training")
    page.get_by_role("link", name="Sweep").first.click()
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h2')
    settle(page)
    choose(page, "scenario", "what the Training page shows")
    choose(page, "axis 1", "training.micro_batch_size")
    values = page.locator('input[aria-label="values of axis 1"]').first
    values.fill("1, 2")
    values.press("Enter")
    page.get_by_role("button", name="Start 2 points").click()
    page.get_by_text("Open the best in Training").wait_for()
    settle(page)
    shoot(page, "training-sweep")
    page.get_by_text("Open the best in Training").click()
    page.wait_for_url(re.compile(r"/training\?"))
    page.wait_for_selector(".fc-card")
    settle(page)
    assert page.locator('[data-testid="stAlertContentError"]').count() == 0
    assert look.complaints == []


def choose(page: Any, label: str, option: str) -> None:
    """Of a box that lists names, the ones that are looked for alone."""
    box = page.locator('[data-testid="stSelectbox"]', has=page.get_by_text(label, exact=True)).first.locator("input")
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)
