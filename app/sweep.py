"""`fleetcast sweep`."""

from __future__ import annotations

import click

from app.commands import FleetcastCommand


@click.command("sweep", cls=FleetcastCommand)
def sweep() -> None:
    """Not there yet."""
