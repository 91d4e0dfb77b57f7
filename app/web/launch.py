"""`fleetcast app`."""

from __future__ import annotations

import click

from app.commands import FleetcastCommand


@click.command("app", cls=FleetcastCommand)
def app_command() -> None:
    """Not there yet."""
