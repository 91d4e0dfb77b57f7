"""`fleetcast calibrate`: its commands, of several files, in the order in which one uses them."""

from __future__ import annotations

import click

from app import calibrate, fidelity, reference_server


class InOrder(click.Group):
    """Lists its commands as they were added."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names."""
        return list(self.commands)


@click.group("calibrate", cls=InOrder)
def calibrate_group() -> None:
    """Measure machines, fit kernels to what was measured, and report how far predictions are off."""


for module in (calibrate, fidelity, reference_server):
    module.add_commands(calibrate_group)
