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
