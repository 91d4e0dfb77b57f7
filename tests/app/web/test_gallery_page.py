"""The Gallery in a real browser: finished results at once, simulated anew, opened, and changed."""

import math
import re
from typing import Any
from urllib.parse import quote

import pytest
from browser_steps import LAPTOP, PHONE

from app.validation import read_validation
from sim.study import load_study, study_names

STUDY = "serving/sarathi-iteration-times"


def settle(page: Any) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def open_study(page: Any, url: str, study: str = STUDY, point: str = "") -> None:
    page.goto(f"{url}/gallery?study={quote(study, safe='')}{f'&point={quote(point, safe=str())}' if point else ''}")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)


def choose(page: Any, label: str, option: str) -> None:
    """Pick an option of a select box."""
    box = page.get_by_role("combobox", name=label, exact=True)
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()


def test_the_gallery_opens_on_all_studies_and_a_card_opens_one(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/gallery")
    page.get_by_text("SARATHI: iteration times and the tile step").wait_for()
    figures = sum(not math.isnan(row.published_low) for row in read_validation().rows)
    assert str(figures) in page.locator(".fc-card", has_text="published figures").inner_text()
    page.get_by_role("button", name="Open the study").first.click()
    first = study_names()[0]
    page.wait_for_url(re.compile(rf"gallery\?study={first.replace('/', '%2F')}"))
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)
    assert page.get_by_role("heading", name=load_study(first).title).is_visible()
    assert look.complaints == []


def test_a_study_is_simulated_again_and_says_so(server: Any, page: Any) -> None:
    open_study(page, server.url)
    page.get_by_role("button", name="Simulate again").click()
    page.get_by_text(re.compile(r"Simulated here, by this version of the simulator, in [0-9]+ s")).wait_for()
    settle(page)
    assert page.locator('[data-testid="stAlert"]').count() == 0


def test_a_long_study_shows_its_rows_and_can_be_stopped(server: Any, page: Any) -> None:
    open_study(page, server.url, "serving/sarathi-pipeline-bubbles")
    page.get_by_role("button", name="Simulate again").click()
    page.get_by_text(re.compile(r"of 5 points, [0-9]+ s")).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("simulating again: stopped").wait_for()
    page.reload()
    page.get_by_text("simulating again: stopped").wait_for()


def test_a_study_and_its_point_are_in_the_url_and_a_changed_knob_is_simulated(server: Any, page: Any) -> None:
    page.set_viewport_size(PHONE)
    open_study(page, server.url, point="decode of 4 sequences at 1K")
    assert "0.04996" in page.locator(".fc-card", has=page.get_by_text("published", exact=True)).inner_text()
    assert page.get_by_text("Table 2 text").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= PHONE["width"]
    page.set_viewport_size(LAPTOP)
    assert page.get_by_role("button", name="Simulate with this").is_disabled()
    choose(page, "engine", "vllm-0.12")
    settle(page)
    page.get_by_role("button", name="Simulate with this").click()
    changed = page.locator(".fc-card", has_text="changed")
    changed.wait_for()
    assert re.search(r"[+-][0-9.]+% against", changed.inner_text())
    assert page.locator(".fc-card", has_text="error against the paper").is_visible()


def test_a_point_opens_in_the_serving_page_with_its_settings(server: Any, page: Any, look: Any) -> None:
    open_study(page, server.url, "serving/tokenweave-prefill", "llama-3.3-70b, TP8: prefill of 4096 tokens")
    simulated = page.locator(".fc-card", has_text="simulated").first.locator(".fc-value").inner_text()
    page.get_by_text("Open as a scenario").click()
    page.wait_for_url(re.compile("cluster|base="))
    ttft = page.locator(".fc-card", has=page.get_by_text("TTFT p99", exact=True))
    ttft.wait_for()
    page.get_by_text("tokenweave-prefill: llama-3.3-70b, TP8: prefill of 4096 tokens").first.wait_for()
    assert float(ttft.locator(".fc-value").inner_text()) == pytest.approx(1e3 * float(simulated), rel=0.02)
    assert look.complaints == []
