"""What collectives on a link cost: fitted where somebody measured it (`calibrated/links/`), assumed elsewhere."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware_models.collective_times import CustomParameters, NcclParameters, Times
from hardware_models.fits import KernelFit, fit_file
from hardware_models.original import same_link
from hardware_models.provenance import Frozen, Source

if TYPE_CHECKING:
    from hardware_models.specs import LinkSpec

Floats = NDArray[np.float64]
P = TypeVar("P", NcclParameters, CustomParameters)
ASSUMED = Path(__file__).parent / "efficiencies" / "links.toml"
FOLDER = "links"  # under hardware_models/calibrated: one file a link, as if it were an operator of a device "links"
REGIMES = ("latency", "transition", "bandwidth")
LATENCY_SHARE, BANDWIDTH_SHARE = 0.25, 0.75  # of the time that bytes take: below it is latency, above it bandwidth
# Standard deviation of log(measured / predicted) on a link nobody measured: parameters fitted on A100's NVLink
# foretell H100's, as shares of its datasheet, with these errors (tests/calibration/test_fit_collectives.py); a host's
# paths differ by more (8 ranks on PCIe: 1.2 to 24 GB/s).
ASSUMED_SPREAD = {"latency": 0.45, "transition": 0.35, "bandwidth": 0.15}
ASSUMED_HOST_SPREAD = {"latency": 0.45, "transition": 0.7, "bandwidth": 0.9}
OUTSIDE = 2.0  # times the spread, for ranks or bytes beyond those measured


@dataclass(frozen=True, slots=True)
class Cost(Generic[P]):
    """One library's parameters on one link, and how sure they are."""

    parameters: P
    spread: Mapping[str, float]  # regime -> standard deviation of log(measured / predicted)
    valid: Mapping[str, tuple[float, float]]  # "ranks", "payload_bytes"; empty: nobody measured
    source: Source

    def sigma(self, times: Times, payload: Floats, ranks: int) -> Floats:
        """Standard deviation of log(measured / predicted) of each time."""
        spread = by_regime(self.spread, times)
        outside = np.zeros(np.shape(payload), bool)
        for name, sizes in (("ranks", np.asarray(float(ranks))), ("payload_bytes", payload)):
            if name in self.valid:
                low, high = self.valid[name]
                outside = outside | (sizes < low) | (sizes > high)
        return np.asarray(np.where(outside, OUTSIDE * spread, spread))

    def of(self, link: LinkSpec) -> Self:
        """On the link they were looked up for: less sure on a variation of it, by what shares of data sheets miss,
        unless nothing that counts was changed.
        """
        if same_link(link):
            return self
        spread = {name: float(np.hypot(own, ASSUMED_SPREAD[name])) for name, own in self.spread.items()}
        text = f"{self.source.text}; of {link.variation_of}, by data sheet"
        return replace(self, spread=spread, source=Source(grade="assumed", text=text))


class LinkEfficiency(Frozen):
    """Collectives over one kind of link that nobody measured; what the names mean: `collective_times`."""

    nccl: dict[str, float]
    mapped: dict[str, float] | None = None  # NCCL where devices reach each other's memory over a host's bus
    custom: dict[str, float] | None = None  # a serving engine's own all-reduce


@functools.cache
def link_efficiencies() -> dict[str, LinkEfficiency]:
    """Link kind (nvlink, pcie, infiniband, ...) to what its collectives are assumed to cost where nobody measured."""
    tables = _assumed()
    return {kind: LinkEfficiency.model_validate(table) for kind, table in tables.items() if kind != "source"}


def link_source(kind: str) -> Source:
    """Where the assumptions on a kind of link come from; `Fabric.source` names those of a link that was measured."""
    sources = _assumed()["source"]
    return Source.model_validate(sources.get(kind, sources["default"]))


@functools.cache
def _assumed() -> dict[str, dict[str, Any]]:
    return tomllib.loads(ASSUMED.read_text())


def regimes(times: Times) -> NDArray[np.int64]:
    """Index into REGIMES of each time, by the share that bytes take of it."""
    share = times.wire_s / np.maximum(times.seconds, 1e-12)
    return np.where(share < LATENCY_SHARE, 0, np.where(share > BANDWIDTH_SHARE, 2, 1))


def by_regime(spread: Mapping[str, float], times: Times) -> Floats:
    """The entry of each time's regime."""
    return np.asarray(np.array([spread[name] for name in REGIMES])[regimes(times)])


@functools.cache
def nccl_cost(link: str, kind: str, *, mapped: bool = False, host: bool = False) -> Cost[NcclParameters]:
    """NCCL on a link of the catalog, by its name and kind.

    mapped: devices on one host reach each other's memory over its bus, rather than through the host's memory.
    host: the link leads to a host, whose paths devices share. Raises FleetcastError for a file that cannot be read.
    """
    key = "nccl/mapped" if mapped else "nccl"
    if (fit := _fit(link, key)) is not None:
        return Cost(NcclParameters.of(fit.parameters, f"links/{link} {key}"), _spread(fit), fit.valid, fit.source)
    table = link_efficiencies()[kind]
    parameters = table.mapped if mapped and table.mapped is not None else table.nccl
    spread = ASSUMED_HOST_SPREAD if host and not mapped else ASSUMED_SPREAD
    return Cost(NcclParameters.of(parameters, f"links.toml {kind}"), spread, {}, link_source(kind))


@functools.cache
def custom_cost(link: str, kind: str) -> Cost[CustomParameters] | None:
    """A serving engine's own all-reduce on a link; None where it has none."""
    if (fit := _fit(link, "custom")) is not None:
        return Cost(CustomParameters.of(fit.parameters, f"links/{link} custom"), _spread(fit), fit.valid, fit.source)
    table = link_efficiencies()[kind].custom
    if table is None:
        return None
    return Cost(CustomParameters.of(table, f"links.toml {kind}"), ASSUMED_SPREAD, {}, link_source(kind))


def _fit(link: str, key: str) -> KernelFit | None:
    file = fit_file(FOLDER, link)
    return file.find(key) if file is not None else None


def _spread(fit: KernelFit) -> dict[str, float]:
    return {name: float(np.hypot(fit.residual[name], fit.doubt.get(name, 0.0))) for name in REGIMES}
