"""Fits the passes over activations between the products, all kinds of a device together."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.fit.kernel import Dataset, Timings, fit_kernel
from calibration.fit.origins import ORIGINS, OWN, preferred
from calibration.sources.elementwise_tables import elementwise_tables
from hardware_models import catalog
from hardware_models.fits import FitFile
from hardware_models.kernels.elementwise import PRIOR, START, price_elementwise
from hardware_models.ops import Elementwise
from hardware_models.price import Price
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec

HALVES = ("bf16", "fp16")
GATHERS = ("embedding", "kv_copy", "sampling")  # kernels of our own measurements that are no passes over rows


def elementwise_datasets(data: Path | None, device: str, own: pd.DataFrame | None = None) -> list[Dataset]:
    """Every benchmark of a device's passes over 16-bit activations; empty where nobody measured them.

    data: folder of published tables, None: none. own: our own `elementwise` measurements.
    """
    tables = [elementwise_tables(data, device)] if data is not None else []
    if own is not None:
        passes = own["dtype"].isin(HALVES) & ~own["name"].isin(GATHERS)
        tables.append(own[passes].assign(origin=OWN))
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    spec = catalog.gpu(device)
    return [
        Dataset(
            device=device,
            operator="elementwise",
            key="bf16",
            origin=str(origin),
            timings=elementwise_timings(rows),
            price=lambda parameters, points: price_passes(spec, parameters, points),
            start=START,
            prior=PRIOR,
            regions=("rows", "width", "passes"),
            source=Source(grade="measured", text=ORIGINS[str(origin)]),
        )
        for origin, rows in pd.concat(tables, ignore_index=True).groupby("origin")
    ]


def fit_elementwise(
    data: Path | None, device: str, date: datetime.date, own: pd.DataFrame | None = None
) -> FitFile | None:
    """Fit a device's passes over 16-bit activations; None where nobody measured them."""
    fits = [fit_kernel(dataset) for dataset in preferred(elementwise_datasets(data, device, own))]
    return FitFile(device=device, operator="elementwise", date=date, fit=fits) if fits else None


def elementwise_timings(table: pd.DataFrame) -> Timings:
    """A table as timings."""
    passes = table["reads"] + table["writes"]
    columns = {"rows": table["rows"], "width": table["width"], "passes": passes}
    sizes = {name: column.to_numpy(float) for name, column in columns.items()}
    return Timings(sizes=sizes, seconds=table["seconds"].to_numpy(float), typical=np.ones(len(table), dtype=bool))


def price_passes(spec: GpuSpec, parameters: Mapping[str, float], points: Timings) -> Price:
    """Predicted prices of measured passes."""
    size = points.sizes
    op = Elementwise(elements=size["rows"] * size["width"] * size["passes"], reads=1, writes=0, dtype="bf16")
    return price_elementwise(op, parameters, spec)
