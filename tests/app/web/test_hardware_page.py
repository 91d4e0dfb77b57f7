"""The Hardware page in a real browser: look up, compare, edit a copy, simulate it."""

import re
from typing import Any

from browser_steps import PHONE

EDIT = "hardware?view=edit+a+copy"


def settle(page: Any) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def card(page: Any, label: str) -> Any:
    return page.locator(".fc-card", has=page.get_by_text(label, exact=True))


def fill(page: Any, label: str, text: str) -> None:
    field = page.locator(f'input[aria-label="{label}"]').first
    field.fill(text)
    field.press("Enter")


def test_constants_are_searched_and_counted_by_grade(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/hardware")
    card(page, "constants").wait_for()
    everything = card(page, "constants").locator(".fc-value").inner_text()
    fill(page, "search", "h100-sxm bandwidth")
    page.wait_for_function(
        "before => document.querySelector('.fc-card .fc-value').innerText !== before", arg=everything
    )
    assert card(page, "constants").locator(".fc-value").inner_text() == "1"
    assert card(page, "quoted").locator(".fc-value").inner_text() == "1"
    page.wait_for_url(re.compile(r"q=h100-sxm"))
    fill(page, "search", "no such thing")
    page.get_by_text("Nothing has all of these words.").wait_for()
    assert look.complaints == []


def test_two_devices_are_compared_with_pictures_from_the_url(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/hardware?view=compare&first-gpu=a100-80gb-sxm&second-gpu=h200")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)
    assert page.get_by_text("a100-80gb-sxm solid, h200 dashed").is_visible()
    assert page.locator(".js-plotly-plot").count() == 2
    assert look.complaints == []


def test_a_copy_is_edited_answered_saved_simulated_and_removed(server: Any, page: Any, look: Any) -> None:
    page.goto(f"{server.url}/{EDIT}&hbm=2&scale_up=0.5")
    card(page, "a token of 1 sequence").wait_for()
    assert "better" in card(page, "a token of 1 sequence").inner_text()
    assert "worse" in card(page, "prompt of 2,048 tokens").inner_text()
    fill(page, "name of the copy", "hbm-twice")
    settle(page)
    page.get_by_role("button", name="Save the copy").click()
    page.get_by_text("Kept as hbm-twice.toml").wait_for()
    assert (server.runs / "hardware" / "hbm-twice" / "gpu.toml").is_file()
    settle(page)  # a click while the page is made anew is lost
    page.get_by_text("Simulate hbm-twice").first.click()
    page.wait_for_url(re.compile(r"cluster\.node=hbm-twice\.toml"))
    page.get_by_text(re.compile("on 1 x hbm-twice")).first.wait_for()
    assert page.locator(".fc-badge", has_text="assumed").count() >= 2
    page.goto(f"{server.url}/{EDIT}")
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("Your copies").wait_for(state="detached")
    assert not (server.runs / "hardware" / "hbm-twice.toml").exists()
    assert look.complaints == []


def test_a_name_that_is_a_path_is_refused_on_a_phone(server: Any, page: Any) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{server.url}/{EDIT}&hbm=2")
    card(page, "a token of 1 sequence").wait_for()
    fill(page, "name of the copy", "../../outside")
    settle(page)
    page.get_by_role("button", name="Save the copy").click()
    page.get_by_text("is no name for a copy").wait_for()
    assert not (server.runs.parent / "outside.toml").exists()
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= PHONE["width"]
