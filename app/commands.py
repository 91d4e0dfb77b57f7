"""What every command of Fleetcast does with a user's mistake and with an interrupt."""

from __future__ import annotations

from typing import Any

import click

from hardware_models.errors import FleetcastError

INTERRUPTED = 130
USER_ERROR = 2
NOTHING_WRITTEN = "nothing was written"


class FleetcastCommand(click.Command):
    """Turns the user's mistakes into one sentence on standard error and exit code 2, an interrupt into 130.

    interrupted: what to say of the work done so far.
    """

    def __init__(self, *arguments: Any, interrupted: str = NOTHING_WRITTEN, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._interrupted = interrupted

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except FleetcastError as error:
            click.echo(f"fleetcast: {error}", err=True)
            context.exit(USER_ERROR)
        except KeyboardInterrupt:
            click.echo(f"fleetcast: interrupted; {self._interrupted}", err=True)
            context.exit(INTERRUPTED)
