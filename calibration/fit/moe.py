"""Fits mixture-of-experts layers: two grouped products, and the activation and sum between and after them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.fit.gemm import WARM_SHARE
from calibration.fit.kernel import Dataset, Timings, fit_kernel
from calibration.fit.origins import ORIGINS, OWN, preferred
from calibration.sources.moe_tables import moe_tables
from hardware_models import catalog
from hardware_models.calibrated_kernel import alike
from hardware_models.dtypes import bytes_per_element
from hardware_models.fits import FitFile
from hardware_models.kernels.grouped_gemm import PRIOR, START, price_grouped_gemm
from hardware_models.ops import GroupedGemm
from hardware_models.price import Price
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec


def moe_datasets(data: Path | None, device: str, own: pd.DataFrame | None = None) -> list[Dataset]:
    """Every format and benchmark of a device (a catalog name); empty where nobody measured it.

    data: folder of published tables, None: none. own: our own `moe` measurements; layers whose experts get more rows
    than others by a law of its own are left out.
    """
    spec = catalog.gpu(device)
    tables = [cold_layers(spec, moe_tables(data, device))] if data is not None else []
    if own is not None:
        tables.append(own[own["skew"] == 0.0].assign(balanced=True, origin=OWN))
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    return moe_sets(spec, pd.concat(tables, ignore_index=True))


def moe_sets(spec: GpuSpec, table: pd.DataFrame) -> list[Dataset]:
    """Of a table as `calibration.sources.moe_tables` reads it one data set a format and benchmark."""
    return [
        _dataset(spec, str(dtype), str(weight_dtype), str(origin), rows)
        for (dtype, weight_dtype, origin), rows in table.groupby(["dtype", "weight_dtype", "origin"])
        if dtype in spec.peak_flop_per_s
    ]


def fit_moe(data: Path | None, device: str, date: datetime.date, own: pd.DataFrame | None = None) -> FitFile | None:
    """Fit every format measured on a device; None where nobody measured it. Arguments as of `moe_datasets`."""
    fits = [fit_kernel(dataset) for dataset in preferred(moe_datasets(data, device, own))]
    return FitFile(device=device, operator="grouped_gemm", date=date, fit=fits) if fits else None


def _dataset(spec: GpuSpec, dtype: str, weight_dtype: str, origin: str, rows: pd.DataFrame) -> Dataset:
    return Dataset(
        device=spec.name,
        operator="grouped_gemm",
        key=f"{alike(dtype)}/{alike(weight_dtype)}",
        origin=origin,
        timings=moe_timings(rows),
        price=lambda parameters, points: price_layer(spec, dtype, weight_dtype, parameters, points),
        start=START,
        prior=PRIOR,
        regions=("tokens", "hidden", "intermediate", "experts"),
        source=Source(grade="measured", text=ORIGINS[origin]),
    )


def cold_layers(spec: GpuSpec, table: pd.DataFrame) -> pd.DataFrame:
    """Without layers whose active weights, timed in a loop, stayed in the L2; a served model's never do."""
    touched = np.minimum(table["experts"], table["tokens"] * table["top_k"])
    held = touched * 3 * table["hidden"] * table["intermediate"] * table["weight_dtype"].map(bytes_per_element)
    cold: pd.DataFrame = table[held > WARM_SHARE * spec.l2_bytes]
    return cold


def moe_timings(rows: pd.DataFrame) -> Timings:
    """A table of one format as timings."""
    names = ("tokens", "hidden", "intermediate", "experts", "top_k", "balanced")
    sizes = {name: rows[name].to_numpy(float) for name in names}
    return Timings(sizes=sizes, seconds=rows["seconds"].to_numpy(float), typical=np.ones(len(rows), dtype=bool))


def price_layer(
    spec: GpuSpec, dtype: str, weight_dtype: str, parameters: Mapping[str, float], points: Timings
) -> Price:
    """Predicted prices of whole layers (gated): up, activation, down and the weighted sum."""
    s = points.sizes
    total = [np.zeros(len(points.seconds)) for _ in range(3)]
    for balanced in (False, True):
        chosen = (s["balanced"] > 0) == balanced
        if not chosen.any():
            continue
        size = {name: values[chosen] for name, values in s.items()}
        for n, k in (
            (2.0 * size["intermediate"], size["hidden"]),
            (size["hidden"], size["intermediate"]),
        ):
            op = GroupedGemm(
                tokens=size["tokens"],
                n=n,
                k=k,
                experts=size["experts"],
                top_k=size["top_k"],
                dtype=dtype,
                weight_dtype=weight_dtype,
                balanced=balanced,
            )
            price = price_grouped_gemm(op, parameters, spec, spec.peak_flop_per_s[dtype])
            for part, more in zip(total, (price.launch_s, price.compute_s, price.memory_s), strict=True):
                part[chosen] += more
    rows = s["tokens"] * s["top_k"]
    bandwidth = spec.memory_bandwidth_bytes_per_s * parameters["memory_fraction"]
    passes = 2.0 * (3.0 * rows * s["intermediate"] + (rows + s["tokens"]) * s["hidden"]) / bandwidth
    return Price(total[0] + passes, total[1], total[2])
