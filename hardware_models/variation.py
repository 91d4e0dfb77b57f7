"""Variations of catalogued hardware: a server with figures of its parts changed, "memory twice as fast" or "half the
NVLink", priced from the calibration of what they vary.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hardware_models import catalog
from hardware_models.collective_times import NETWORKS
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.provenance import Source
from hardware_models.spec_file import validated
from hardware_models.specs import GpuSpec, LinkSpec, NicSpec, NodeSpec, Spec

PARTS = ("gpu", "scale_up", "pcie", "network")  # of a server, as changes name them; network: what its cards plug into
FACTOR = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*x\s*")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FIXED = {"name", "source", "variation_of", "original_bandwidth_bytes_per_s", "vendor", "architecture", "kind",
         "topology", "link"}  # fmt: skip
# More multiprocessors or a faster clock do more arithmetic; neighbours in a mesh are joined by the same links.
CARRIED = {
    "sm_count": ("peak_flop_per_s",),
    "boost_clock_hz": ("peak_flop_per_s",),
    "bandwidth_bytes_per_s": ("peer_bandwidth_bytes_per_s",),
}
# Figures that nothing simulated depends on; nor does it on the latency of links inside a server (the fitted steps of
# collectives hold it).
UNREAD: dict[type[Spec], set[str]] = {
    GpuSpec: {"matrix_clock_hz"},
    NicSpec: {"latency_s"},
}
TOO_LARGE = "has more digits than any figure; give one below 1e308"

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one part: a factor of what it was, or a value."""

    part: str  # one of PARTS; empty: the server itself
    key: str  # as in the catalog; "table.entry" for one entry of a table
    factor: float | None = None
    value: Any = None

    def __str__(self) -> str:
        what = f"{self.factor!r}".removesuffix(".0") + "x" if self.factor is not None else str(self.value)
        return f"{self.part}.{self.key}={what}" if self.part else f"{self.key}={what}"


@dataclass(frozen=True, slots=True)
class Variation:
    """A server and those of its parts that are its own, by the key of the server (or card) that names them."""

    node: NodeSpec
    parts: Mapping[str, Spec]


def parse_change(text: str) -> Change:
    """Read `gpu.memory_bandwidth_bytes_per_s=2x`, or `memory_bytes=141e9`; raises FleetcastError."""
    path, found, written = text.partition("=")
    part, dot, key = path.strip().partition(".")
    if not dot or part not in PARTS:
        part, key = "", path.strip()
    if not found or not key or not written.strip():
        raise FleetcastError(f"--set {text}: write it as part.key=2x or key=value, e.g. gpu.memory_bytes=2x")
    if match := FACTOR.fullmatch(written):
        return Change(part, key, factor=_factor(match[1], text))
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except ValueError:
        value = written.strip()
    if isinstance(value, int) and value.bit_length() > sys.float_info.max_exp:
        raise FleetcastError(f"--set {text[:60]}...: {TOO_LARGE}")
    return Change(part, key, value=value)


def check_name(name: str) -> str:
    """A name for a copy: no path, and none of the catalog's; raises FleetcastError."""
    if not NAME.fullmatch(name):
        raise FleetcastError(
            f"'{name}' is no name for a copy; use up to 64 letters, digits, dots, dashes and underscores, a letter or"
            " digit first"
        )
    if name.endswith(".toml"):
        raise FleetcastError(f"'{name}' is no name for a copy; leave '.toml' out")
    if name in catalog.names("node"):
        raise FleetcastError(f"'{name}' is a server of the catalog; give the copy a name of its own")
    return name


def vary(spec: S, name: str, changes: Iterable[Change]) -> S:
    """A copy with figures changed, each with a source that says so; raises FleetcastError (UnknownNameError for a key).

    What goes along with a figure (see CARRIED) is changed by the same factor, unless it has a change of its own.
    """
    changes = list(changes)
    table: dict[str, Any] = spec.model_dump()
    for change in _with_carried(spec, changes):
        _apply(table, spec, change)
    table["name"] = name
    if (original := catalog.original_of(spec)) is not None:
        table["variation_of"] = original.name
    if isinstance(original, LinkSpec):
        table["original_bandwidth_bytes_per_s"] = original.bandwidth_bytes_per_s
    return validated(type(spec), table, name)


def vary_node(original: str, name: str, changes: Iterable[Change]) -> Variation:
    """A copy of a server (catalog name, or file) with changed figures, its own or its parts'; raises FleetcastError.

    Parts that nothing changes stay the catalog's. A changed network changes the cards that plug into it alike.
    """
    changes = list(changes)
    node = catalog.node(original)
    card = catalog.nic(node.nic)
    found: dict[str, tuple[str | None, Spec | None]] = {
        "gpu": (node.gpu, catalog.gpu(node.gpu)),
        "scale_up": (node.scale_up, catalog.link(node.scale_up) if node.scale_up else None),
        "pcie": (node.pcie, catalog.link(node.pcie)),
        "network": (card.link, catalog.link(card.link)),
    }
    parts: dict[str, Spec] = {}
    for part, (reference, spec) in found.items():
        mine = [change for change in changes if change.part == part]
        if spec is None:
            if mine:
                raise FleetcastError(f"{mine[0]}: {node.name} has no {part} link; its GPUs talk over pcie")
        elif mine or str(reference).endswith(".toml"):
            parts[part] = vary(spec, f"{name}-{part}", mine)
    if "network" in parts:
        parts["nic"] = _card(card, f"{name}-nic", [change for change in changes if change.part == "network"])
    return Variation(vary(node, name, [change for change in changes if not change.part]), parts)


def _card(card: NicSpec, name: str, changes: list[Change]) -> NicSpec:
    """A card that carries what its network does."""
    return vary(card, name, [change for change in changes if change.key == "bandwidth_bytes_per_s"])


def changeable(spec: Spec) -> list[str]:
    """Keys of figures that a copy may change, an entry a line for tables: those that something depends on."""
    keys: list[str] = []
    for key, value in spec.model_dump(exclude=FIXED | _unread(spec) | {"tdp_w"}).items():
        if isinstance(value, dict):
            keys += [key, *(f"{key}.{entry}" for entry in value)]
        elif _is_number(value):
            keys.append(key)
    return keys


def _unread(spec: Spec) -> set[str]:
    """Keys of its figures that nothing depends on."""
    if isinstance(spec, LinkSpec):
        return set() if spec.kind in NETWORKS else {"latency_s"}
    return UNREAD.get(type(spec), set())


def _check_changeable(change: Change, spec: Spec) -> None:
    """Refuse a change that would do nothing, or that would be wrong."""
    if isinstance(spec, GpuSpec) and change.key == "tdp_w":
        raise FleetcastError(
            f"{change}: power limits are not modelled yet, under a lower one nothing would run slower; leave out tdp_w,"
            f" {spec.tdp_w:g} W of {spec.name}"
        )
    if change.key in _unread(spec):
        raise FleetcastError(f"{change}: nothing simulated depends on {change.key} of {spec.name}; leave it out")
    known = changeable(spec)
    if change.key not in known:
        raise UnknownNameError(f"{change}: figure of {spec.name}", change.key, known)


def _with_carried(spec: Spec, changes: list[Change]) -> list[Change]:
    """The changes, before them those of what goes along."""
    table = spec.model_dump()
    named = {change.key.partition(".")[0] for change in changes}
    return [
        Change(change.part, key, factor=factor)
        for change in changes
        for key in CARRIED.get(change.key, ())
        if key not in named and table.get(key) is not None and (factor := _ratio(change, table.get(change.key)))
    ] + changes


def _ratio(change: Change, was: Any) -> float | None:
    """New over old, where both are numbers."""
    new = _changed(was, change) if _is_number(was) else None
    return new / was if _is_number(new) and was else None


def _apply(table: dict[str, Any], spec: Spec, change: Change) -> None:
    """Change one figure, or all of a table, and say so in its source."""
    _check_changeable(change, spec)
    head, _, entry = change.key.partition(".")
    holder, key = (table[head], entry) if entry else (table, head)
    was = holder[key]
    if isinstance(was, dict):
        if change.factor is None:
            raise FleetcastError(
                f"{change}: {key} is a table; give a factor (2x), or one entry, e.g. {changeable(spec)[-1]}=1e15"
            )
        holder[key] = {name: number * change.factor for name, number in was.items()}
        said = f"{change.factor:g} x that of {spec.name}"
    else:
        holder[key] = _changed(was, change)
        said = f"{change.factor:g} x the" if change.factor is not None else "set, in place of the"
        said = f"{said} {was:,.6g} of {spec.name}"
    sources = {name: source for name, source in table["source"].items() if not name.startswith(f"{change.key}.")}
    table["source"] = {**sources, change.key: Source(grade="assumed", text=f"varied: {said}").model_dump()}


def _changed(was: float, change: Change) -> Any:
    """The new figure, in the type of the old one; what is no number is for the spec to refuse."""
    value = was * change.factor if change.factor is not None else change.value
    if not _is_number(value):
        return value
    try:
        whole = change.factor is not None or float(value).is_integer()
        if isinstance(was, int):
            return round(value) if whole else value
        return float(value)
    except OverflowError:
        raise FleetcastError(f"{change.part or 'server'}.{change.key}: {TOO_LARGE}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _factor(digits: str, where: str) -> float:
    try:
        factor = float(digits)
    except ValueError:
        factor = 0.0
    if not 1e-6 <= factor <= 1e6:
        raise FleetcastError(f"--set {where}: {digits} is no factor; give one between 0.000001x and 1000000x")
    return factor
