"""What an offloaded step says beside any other: its policy, how full each tier, what each link carried, what fits."""

from __future__ import annotations

from html import escape
from typing import Any

STREAMS = {
    "compute": "GPU",
    "h2d": "copies to the GPU",
    "d2h": "copies to host memory",
    "ssd": "drives",
    "cpu": "CPU",
    "collectives": "among GPUs",
}
MOVED = {
    "h2d": "to the GPU",
    "d2h": "to host memory",
    "ssd_read": "read from drives",
    "ssd_write": "written to drives",
    "cpu": "touched by the CPU",
}


def offload_lines(summary: dict[str, Any]) -> list[str]:
    """For a terminal; none of a step without offload."""
    if (use := summary.get("offload")) is None:
        return []
    lines = [f"{name:<26}{tier}" for name, tier in _tiers(use)]
    lines.append(f"{'moved in a step, a rank':<26}{_moved(use)}")
    lines.append(f"{'in use':<26}{_busy(use)}")
    lines.append(f"{'largest model that fits':<26}{_largest(use)}")
    return lines


def offload_html(summary: dict[str, Any]) -> str:
    """The same as a table; empty of a step without offload."""
    if (use := summary.get("offload")) is None:
        return ""
    rows = [*_tiers(use), ("moved in a step, a rank", _moved(use)), ("in use", _busy(use))]
    rows.append(("largest model that fits", _largest(use)))
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f'<h2>Offload: {escape(use["policy"])}</h2><div class="wide"><table>{body}</table></div>'


def _tiers(use: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for tier in use["tiers"].values():
        short = use["short_bytes"].get(tier["name"])
        owners = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in list(tier["owners"].items())[:4])
        verdict = f" ({short / 1e9:.1f} GB short)" if short else ""
        text = f"{tier['peak_bytes'] / 1e9:,.1f} GB of {tier['budget_bytes'] / 1e9:,.1f} GB{verdict}"
        found.append((f"{tier['name']}, a rank", f"{text}{f': {owners}' if owners else ''}"))
    return found


def _moved(use: dict[str, Any]) -> str:
    moved = use["moved_bytes"]
    return ", ".join(f"{moved[key] / 1e9:,.0f} GB {name}" for key, name in MOVED.items() if moved[key]) or "nothing"


def _busy(use: dict[str, Any]) -> str:
    busy = use["busy_fraction"]
    return ", ".join(f"{name} {busy[key]:.0%}" for key, name in STREAMS.items() if busy[key] >= 0.005)


def _largest(use: dict[str, Any]) -> str:
    largest = use["largest"]
    if not largest["layers"]:
        return f"none of this width: {largest['tier']} is too small for one layer"
    then = f"then {largest['tier']} is full" if largest["tier"] != "none" else "more were not tried"
    return (
        f"{largest['parameters'] / 1e9:,.1f} G parameters ({largest['layers']:,} layers of this width, at this"
        f" micro-batch); {then}"
    )
