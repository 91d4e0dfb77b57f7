"""How well the parameters of measured devices price one that was not: every measured device in turn is left out."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.fit.kernel import Dataset, Floats, Timings
from calibration.fit.robust import robust_spread
from hardware_models import catalog
from hardware_models.calibrated_kernel import combine, nearest
from hardware_models.fits import FitFile
from hardware_models.price import Price

POINTS = 3000  # of a device, to judge by
DISTANCES = ("family", "any")
FILE = "relatives.toml"
Measured = Mapping[str, FitFile]  # fits of one kind of kernel, by device


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of log(measured / predicted) of one format of a device left out."""

    operator: str
    device: str
    distance: str  # one of DISTANCES
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A device priced from its data sheet and its relatives alone."""

    operator: str
    device: str
    key: str
    distance: str  # one of DISTANCES
    relatives: tuple[str, ...]
    timings: Timings  # typical points, POINTS of them at most
    price: Price  # of those points

    @property
    def log_errors(self) -> Floats:
        """log(measured / predicted) of each point."""
        return np.asarray(np.log(self.timings.seconds / self.price.seconds))

    @property
    def spread(self) -> Spread:
        """How far off it is, in a word."""
        return Spread(self.operator, self.device, self.distance, robust_spread(self.log_errors))


def transfers(dataset: Dataset, measured: Measured) -> Iterator[Transfer]:
    """Price a data set without its device's own fits: from its family, where it has one, and from devices outside."""
    spec = catalog.gpu(dataset.device)
    others = {name: fit for name, file in measured.items() if (fit := file.find(dataset.key)) and name != spec.name}
    if not others:
        return
    typical = dataset.timings.pick(dataset.timings.typical)
    typical = typical.pick(np.random.default_rng(5).permutation(len(typical.seconds))[:POINTS])
    if not len(typical.seconds):
        return
    near, distance = nearest(spec, others)
    strangers = {name: fit for name, fit in others.items() if name not in near}  # what a device without family has
    for name, fits in ((distance, near), *([("any", strangers)] if distance == "family" and strangers else [])):
        yield Transfer(
            operator=dataset.operator,
            device=dataset.device,
            key=dataset.key,
            distance=name,
            relatives=tuple(sorted(fits)),
            timings=typical,
            price=dataset.price(combine(list(fits.values())), typical),
        )


def spread_table(found: Iterable[Spread]) -> dict[str, dict[str, float]]:
    """Operator -> distance -> spread of log(measured / predicted): the root mean square over the devices, and of each
    device over its formats, so that no device counts for more because more of it was measured.
    """
    squares: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in found:
        devices = squares.setdefault((one.operator, one.distance), {})
        devices.setdefault(one.device, []).append(one.spread**2)
    table: dict[str, dict[str, float]] = {}
    for (operator, distance), devices in sorted(
        squares.items(), key=lambda item: (item[0][0], DISTANCES.index(item[0][1]))
    ):
        spread = np.sqrt(np.mean([np.mean(values) for values in devices.values()]))
        table.setdefault(operator, {})[distance] = float(spread)
    return table


def read_spreads(folder: Path) -> dict[str, dict[str, float]]:
    """The table of `folder`/relatives.toml; empty where there is none."""
    path = folder / FILE
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def write_spreads(table: dict[str, dict[str, float]], folder: Path) -> Path:
    """Write `folder`/relatives.toml; returns its path."""
    lines = [
        "# Spread of log(measured / predicted) of devices left out of the calibration and priced from their relatives:",
        "# of the same architecture and kind of memory (family), or of measured devices outside their family (any).",
    ]
    for operator, spreads in table.items():
        lines += ["", f"[{operator}]", *(f"{distance} = {value:.4f}" for distance, value in spreads.items())]
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
