"""How much of a datasheet peak each kind of operator reaches, by device class; read from `efficiencies/*.toml`."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError

FOLDER = Path(__file__).parent / "efficiencies"


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KernelEfficiency(Frozen):
    """A kind of kernel: time = launch_s + max(flop / (compute_fraction peak), bytes / (memory_fraction bandwidth))."""

    launch_s: float = Field(ge=0)
    compute_fraction: float = Field(gt=0, le=1)
    memory_fraction: float = Field(gt=0, le=1)


class Tile(Frozen):
    """One output tile shape (m x n elements a multiprocessor computes at once) and the peak share it reaches."""

    m: int = Field(gt=0)
    n: int = Field(gt=0)
    compute_fraction: float = Field(gt=0, le=1)


class GemmEfficiency(Frozen):
    """Dense matrix products: tile shapes the library chooses from, and how many ways it may split k."""

    launch_s: float = Field(ge=0)
    memory_fraction: float = Field(gt=0, le=1)
    split_k: tuple[int, ...]
    tile: tuple[Tile, ...]


class Source(Frozen):
    """Where numbers come from, and how far to trust them."""

    grade: str = Field(pattern="^(measured|quoted|assumed)$")
    text: str


class EfficiencyClass(Frozen):
    """All kernel efficiencies of one class of devices."""

    name: str
    gemm: GemmEfficiency
    grouped_gemm: KernelEfficiency
    attention_prefill: KernelEfficiency
    attention_decode: KernelEfficiency
    elementwise: KernelEfficiency
    embedding: KernelEfficiency
    source: dict[str, Source]


class LinkEfficiency(Frozen):
    """Collectives over one kind of link (alpha-beta): launch_s + hops x hop_s + bytes / (bandwidth_fraction
    bandwidth).
    """

    launch_s: float = Field(ge=0)
    hop_s: float = Field(ge=0)
    bandwidth_fraction: float = Field(gt=0, le=1)
    direct_launch_s: float | None = Field(default=None, ge=0)  # one-shot peer reads, where peers are mapped
    in_switch_fraction: float | None = Field(default=None, gt=0, le=1)


@functools.cache
def efficiency_class(name: str) -> EfficiencyClass:
    """The efficiencies of a device class, by file name; raises UnknownNameError."""
    path = FOLDER / f"{name}.toml"
    if name == "links" or not path.is_file():
        raise UnknownNameError("efficiency_class", name, (p.stem for p in FOLDER.glob("*.toml") if p.stem != "links"))
    try:
        return EfficiencyClass.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        raise FleetcastError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None


@functools.cache
def link_efficiencies() -> dict[str, LinkEfficiency]:
    """Link kind (nvlink, pcie, infiniband, ...) to its collective efficiencies."""
    tables = _links_file()
    return {kind: LinkEfficiency.model_validate(table) for kind, table in tables.items() if kind != "source"}


def link_source(kind: str) -> Source:
    """Where a link kind's efficiencies come from."""
    sources = _links_file()["source"]
    return Source.model_validate(sources.get(kind, sources["default"]))


@functools.cache
def _links_file() -> dict[str, dict[str, Any]]:
    return tomllib.loads((FOLDER / "links.toml").read_text())
