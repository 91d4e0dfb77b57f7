"""Lists that options of `fleetcast plan` hold as text."""

from __future__ import annotations

from hardware_models.errors import FleetcastError


def names(option: str, text: str | None) -> tuple[str, ...] | None:
    """Of a,b,c; raises FleetcastError for an empty one."""
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise FleetcastError(f"{option} '{text}': has an empty name; write it as a,b,c")
    return found


def numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Of 1,2,4; raises FleetcastError for what is no whole number."""
    given = names(option, text)
    try:
        return None if given is None else tuple(int(one) for one in given)
    except ValueError:
        raise FleetcastError(f"{option} {text}: is no list of whole numbers; write it as 1,2,4") from None


def limits(given: tuple[str, ...]) -> dict[str, int]:
    """Of node=count; raises FleetcastError for any other text."""
    found = {}
    for text in given:
        name, equals, count = text.partition("=")
        if not equals or not count.strip().isdigit():
            raise FleetcastError(f"--limit {text}: write it as node=count, for example dgx-h100=4")
        found[name.strip()] = int(count)
    return found
