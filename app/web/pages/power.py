"""The Power page: what a row of servers draws against its limit, who is slowed for it, and what users feel."""

from __future__ import annotations

from app.web.families import POWER
from app.web.pages.serving import page

TITLE = POWER.title
ICON = ":material/electric_meter:"


def render() -> None:
    """Draw the page."""
    page(POWER).render()
