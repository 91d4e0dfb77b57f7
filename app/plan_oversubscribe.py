"""`fleetcast plan --oversubscribe`: asks for the plan of a row and says where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.plan_outputs import deliver

if TYPE_CHECKING:
    from app.plan_progress import Line
    from sim.plan.power import Oversubscription
    from sim.scenario import Scenario

SEEDS = 3


def oversubscribe(scenario: Scenario, options: dict[str, Any], policies: tuple[str, ...] | None, line: Line) -> bool:
    """Plan, deliver, and say whether there is an answer; options: as the command takes them."""
    from sim.plan.power import Criteria, OversubscribeOptions, plan_oversubscription

    asked = OversubscribeOptions(
        criteria=Criteria().changed(options["allow"]),
        built_for=options["built_for"],
        most_servers=options["most_servers"],
        policies=policies,
        seeds=SEEDS if options["most_seeds"] is None else options["most_seeds"],
        confirm=options["confirm"],
        confidence=options["confidence"],
        workers=options["workers"],
    )
    found = plan_oversubscription(scenario, asked, line.say)
    line.clear()
    deliver_oversubscription(found, options["out"], as_json=options["as_json"])
    return found.answer is not None


def deliver_oversubscription(found: Oversubscription, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    from app.plan_oversubscribe_console import oversubscription_lines
    from sim.plan.power.table import oversubscription_json

    answer = oversubscription_json(found)
    ready = {} if found.best is None else {"best.toml": found.best}
    deliver(answer, lambda: oversubscription_lines(answer), ready, out, as_json=as_json)
