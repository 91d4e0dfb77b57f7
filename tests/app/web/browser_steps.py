"""What tests in a browser do and look at."""

import os
import time
from pathlib import Path
from typing import Any

LAPTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def settle(page: Any) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def open_page(page: Any, url: str) -> None:
    """Wait for its cards and pictures."""
    page.goto(url)
    page.wait_for_selector(".fc-card")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)


def card(page: Any, label: str) -> str:
    """The figure of a card."""
    found = page.locator(".fc-card", has=page.get_by_text(label, exact=True))
    return str(found.locator(".fc-value").inner_text())


def set_number(page: Any, label: str, value: float) -> None:
    """Type into a field of the form."""
    field = page.locator(f'input[aria-label="{label}"]').first
    field.fill(f"{value:g}")
    field.press("Enter")


def card_shows(page: Any, label: str, figure: str) -> None:
    """Wait until a card holds a figure."""
    page.wait_for_function(
        """([label, figure]) => [...document.querySelectorAll('.fc-card')].some(card =>
            card.querySelector('.fc-label').innerText === label
            && card.querySelector('.fc-value').innerText === figure)""",
        arg=[label, figure],
    )


def card_changes(page: Any, label: str, before: str) -> str:
    """Wait until a card holds another figure, which is returned."""
    page.wait_for_function(
        """([label, before]) => [...document.querySelectorAll('.fc-card')].some(card =>
            card.querySelector('.fc-label').innerText === label
            && card.querySelector('.fc-value').innerText !== before)""",
        arg=[label, before],
    )
    settle(page)  # meanwhile the old cards may stand beside the new ones
    return card(page, label)


def shoot(page: Any, name: str) -> None:
    """A picture for people to look at, where they ask for one."""
    folder = os.environ.get("FLEETCAST_SCREENSHOTS")
    if folder:
        size = page.viewport_size
        page.set_viewport_size({"width": size["width"], "height": 2400})
        time.sleep(0.7)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
        page.set_viewport_size(size)
