"""`fleetcast plan`."""

from __future__ import annotations

import click

from app.commands import FleetcastCommand


@click.command("plan", cls=FleetcastCommand)
def plan() -> None:
    """Not there yet."""
