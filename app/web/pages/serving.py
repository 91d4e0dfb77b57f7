"""The Serving page: what a deployment makes of requests."""

from __future__ import annotations

from typing import Any

from app.web.answer import show_answer
from app.web.families import SERVING, Family
from app.web.scenario_page import ScenarioPage
from sim.stored_run import StoredRun

TITLE = SERVING.title
ICON = ":material/bolt:"


def render() -> None:
    """Draw the page."""
    page(SERVING).render()


def page(family: Family) -> ScenarioPage[StoredRun]:
    """Of a kind of scenario in which requests are served."""
    return ScenarioPage(family=family, kind=StoredRun, show=_show, unlike=_unlike)


def _show(run: StoredRun, baseline: StoredRun | None, _said: dict[str, Any]) -> None:
    show_answer(run, baseline)


def _unlike(baseline: StoredRun, shown: StoredRun) -> str:
    before, now = baseline.scenario.workload, shown.scenario.workload
    alike = (before.trace, before.generator) == (now.trace, now.generator)
    return "" if alike else "serves other requests"
