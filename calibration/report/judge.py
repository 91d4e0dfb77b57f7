"""Published timings beside what a calibration predicts of them, apart by what the calibration had seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.fit.attention import PHASES, attention_sets
from calibration.fit.datasets import OPERATORS, datasets
from calibration.fit.kernel import Dataset, Floats, Timings
from calibration.fit.moe import cold_layers, moe_sets
from calibration.fit.origins import ORIGINS
from calibration.fit.transfer import read_spreads, transfers
from calibration.sources.attention_tables import other_engines_decode, other_engines_prefill
from calibration.sources.moe_tables import moe_tables
from hardware_models import catalog
from hardware_models.calibrated_kernel import UNKNOWN_SPREAD
from hardware_models.fits import REGIMES, FitFile, KernelFit, regimes
from hardware_models.price import Price

HELD_OUT = "held-out regions"
BENCHMARK = "another benchmark of this device"
FAMILY = "device held out, priced from its family"
STRANGERS = "device held out, priced from others"
PARTS = (HELD_OUT, BENCHMARK, FAMILY, STRANGERS)
PART_OF_DISTANCE = {"family": FAMILY, "any": STRANGERS}
Files = Mapping[tuple[str, str], FitFile]  # (device, kind of kernel) -> calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Points of one kernel, format and benchmark; arrays (points,)."""

    device: str
    operator: str
    key: str
    origin: str  # of `calibration.fit.origins`
    part: str  # one of PARTS
    sizes: dict[str, Floats]
    measured_s: Floats
    predicted_s: Floats
    sigma: Floats  # standard deviation of log(measured / predicted) that the calibration claims
    regime: NDArray[np.int64]  # index into hardware_models.fits.REGIMES


def judge(data: Path, folder: Path, files: Files) -> Iterator[Judged]:
    """Predict every published point of the devices of a calibration.

    data: folder of published tables. folder: of the calibration, for relatives.toml; files: its fits.
    """
    spreads = read_spreads(folder)
    for operator in OPERATORS:
        measured = {device: file for (device, name), file in files.items() if name == operator}
        spread = spreads.get(operator, {})
        for device, file in measured.items():
            for dataset in (*datasets(operator, data, device), *other_engines(operator, data, device)):
                fit = file.find(dataset.key)
                if fit is None:
                    continue
                if fit.source.text.endswith(ORIGINS[dataset.origin]):
                    yield from _held_out(dataset, fit)
                    yield from _left_out(dataset, measured, spread)
                else:
                    yield from _other_benchmark(dataset, fit)


def other_engines(operator: str, data: Path, device: str) -> list[Dataset]:
    """Timings of other engines' kernels, which no fit is made of."""
    spec = catalog.gpu(device)
    if operator in PHASES:
        read = other_engines_prefill if operator == "attention_prefill" else other_engines_decode
        table = read(data, device)
        return attention_sets(operator, spec, table) if len(table) else []
    if operator == "grouped_gemm":
        table = cold_layers(spec, moe_tables(data, device, "trtllm"))
        return moe_sets(spec, table) if len(table) else []
    return []


def _held_out(dataset: Dataset, fit: KernelFit) -> Iterator[Judged]:
    unseen = dataset.timings.pick(dataset.kept_out() & dataset.timings.typical)
    if len(unseen.seconds):
        price = dataset.price(fit.parameters, unseen)
        yield _judged(dataset, HELD_OUT, unseen, price, fit.sigma(price))


def _other_benchmark(dataset: Dataset, fit: KernelFit) -> Iterator[Judged]:
    points = dataset.timings.pick(dataset.timings.typical)
    if len(points.seconds):
        price = dataset.price(fit.parameters, points)
        yield _judged(dataset, BENCHMARK, points, price, fit.sigma(price))


def _left_out(dataset: Dataset, measured: Mapping[str, FitFile], spreads: Mapping[str, float]) -> Iterator[Judged]:
    """As `calibrated_kernel` would price the device: relatives' common parameters and spread, and the transfer's."""
    for transfer in transfers(dataset, measured):
        fits = [fit for name in transfer.relatives if (fit := measured[name].find(dataset.key)) is not None]
        own = np.array([[np.hypot(fit.residual[r], fit.doubt.get(r, 0.0)) for r in REGIMES] for fit in fits])
        spread = np.hypot(np.median(own, axis=0), spreads.get(transfer.distance, UNKNOWN_SPREAD))
        part = PART_OF_DISTANCE[transfer.distance]
        yield _judged(dataset, part, transfer.timings, transfer.price, spread[regimes(transfer.price)])


def _judged(dataset: Dataset, part: str, points: Timings, price: Price, sigma: Floats) -> Judged:
    return Judged(
        device=dataset.device,
        operator=dataset.operator,
        key=dataset.key,
        origin=dataset.origin,
        part=part,
        sizes=points.sizes,
        measured_s=points.seconds,
        predicted_s=np.asarray(price.seconds, float),
        sigma=sigma,
        regime=regimes(price),
    )
