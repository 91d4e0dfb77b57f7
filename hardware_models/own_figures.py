"""What is the user's own in a server's figures, so that results on other hardware are told apart by what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hardware_models import catalog
from hardware_models.specs import NicSpec, NodeSpec, Spec

SILENT = {"name", "source", "variation_of", "original_bandwidth_bytes_per_s"}


def own_figures(node: NodeSpec) -> dict[str, str]:
    """Figure (`gpus`, `gpu.memory_bytes`) to what it is ("2x of h100-sxm", or its value), of each that differs from the
    catalog's; every figure of a part that varies nothing there. Empty for the catalog's servers and true copies.
    """
    parts = dict(_own_parts(node))
    found = dict(_differences("", node, parts))
    for part, spec in parts.items():
        found |= _differences(f"{part}.", spec, parts)
    return found


def _own_parts(node: NodeSpec) -> Iterator[tuple[str, Spec]]:
    """What lies in files of the user's, as changes name it, and the network card."""
    if _is_file(node.gpu):
        yield "gpu", catalog.gpu(node.gpu)
    for key, name in (("scale_up", node.scale_up), ("pcie", node.pcie)):
        if name is not None and _is_file(name):
            yield key, catalog.link(name)
    if _is_file(node.nic):
        card = catalog.nic(node.nic)
        yield "nic", card
        if _is_file(card.link):
            yield "network", catalog.link(card.link)


def _differences(prefix: str, spec: Spec, parts: Mapping[str, Spec]) -> Iterator[tuple[str, str]]:
    original = catalog.original_of(spec)
    its = dict(_figures(original)) if original is not None else {}
    for key, value in _figures(spec):
        mine = _named(key, value, spec, parts)
        if original is None:
            yield prefix + key, str(mine)
        elif mine != its.get(key):
            yield prefix + key, _text(mine, its.get(key), original.name)


def _figures(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Keys and values, an entry of a table each; what is absent is left out."""
    for key, value in spec.model_dump(exclude=SILENT).items():
        if isinstance(value, dict):
            yield from ((f"{key}.{entry}", number) for entry, number in value.items())
        elif value is not None:
            yield key, value


def _named(key: str, value: Any, spec: Spec, parts: Mapping[str, Spec]) -> Any:
    """For a part in a file what it varies, since its figures are told one by one; else its name."""
    if not isinstance(value, str) or not _is_file(value):
        return value
    part = parts["network" if isinstance(spec, NicSpec) and key == "link" else key]
    original = catalog.original_of(part)
    return part.name if original is None else original.name


def _text(value: Any, its: Any, whose: str) -> str:
    """A factor where that says it exactly, else the value."""
    if isinstance(value, int | float) and isinstance(its, int | float) and its:
        factor = f"{value / its:g}"
        if float(factor) * its == value:
            return f"{factor}x of {whose}"
    return str(value)


def _is_file(name: str) -> bool:
    return name.endswith(".toml")
