"""The Fidelity page in a real browser."""

import statistics
from typing import Any

from app.validation import read_validation


def settle(page: Any) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def test_fidelity_shows_systems_kernels_and_words_on_trust(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/fidelity")
    page.get_by_text("How far to trust what").wait_for()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)
    assert page.locator(".js-plotly-plot").count() == 4
    assert page.locator(".fc-badge").count() == 3
    judged = [row for row in read_validation().rows if not row.in_sample and row.published_low == row.published_high]
    median = statistics.median(abs(row.error_fraction) for row in judged)
    assert f"{median:.0%}" in page.locator(".fc-card", has_text="median error of them").inner_text()
    assert look.complaints == []


def test_a_device_is_opened_from_the_url(server: Any, page: Any) -> None:
    page.goto(f"{server.url}/fidelity?device=h100-sxm&family=serving")
    page.get_by_text("meet their targets").wait_for()
    assert " of " in page.locator(".fc-card", has_text="meet their targets").inner_text()


def test_links_are_a_device_too(server: Any, page: Any) -> None:
    page.goto(f"{server.url}/fidelity?device=links")
    page.get_by_text("links and libraries").wait_for()
