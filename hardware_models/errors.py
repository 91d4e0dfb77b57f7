"""The errors a user can cause; each message is one sentence naming the key, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FleetcastError(Exception):
    """A mistake in the user's input; the command line prints it and exits with code 2."""


class UnknownNameError(FleetcastError):
    """A name that is not in a catalog or a registry."""

    def __init__(self, key: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        close = difflib.get_close_matches(name, choices, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(choices) or 'none'}"
        super().__init__(f"{key}: unknown name '{name}'; {hint}")


class ImpossibleError(FleetcastError):
    """A deployment that cannot be, whatever happens; searches record it as a row, the command line as an error."""


class DoesNotFitError(ImpossibleError):
    """A deployment that the hardware cannot hold."""
