"""Fits dense matrix products, one fit a number format."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.fit.kernel import Dataset, Timings, fit_kernel
from calibration.fit.origins import ORIGINS, OWN, preferred
from calibration.sources.gemm_tables import gemm_tables
from hardware_models import catalog
from hardware_models.calibrated_kernel import alike
from hardware_models.dtypes import bytes_per_element
from hardware_models.fits import FitFile
from hardware_models.kernels.gemm import PRIOR, QUANTISE_START, START, price_gemm
from hardware_models.ops import Gemm
from hardware_models.price import Price
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec

# A weight matrix stays in the L2 while all copies a benchmark rotates through fill less than this share of it.
WARM_SHARE = 1.3


def gemm_datasets(data: Path | None, device: str, own: pd.DataFrame | None = None) -> list[Dataset]:
    """Every format and benchmark of a device (a catalog name); empty where nobody measured it.

    data: folder of published tables, None: none. own: our own `gemm` measurements, which rotate through operands
    enough to leave none in the L2.
    """
    tables = [gemm_tables(data, device)] if data is not None else []
    if own is not None:
        tables.append(own.assign(copies=0, origin=OWN))
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    spec = catalog.gpu(device)
    return [
        _dataset(spec, str(dtype), str(weight_dtype), str(origin), rows)
        for (dtype, weight_dtype, origin), rows in pd.concat(tables, ignore_index=True).groupby(
            ["dtype", "weight_dtype", "origin"]
        )
        if dtype in spec.peak_flop_per_s
    ]


def fit_gemm(data: Path | None, device: str, date: datetime.date, own: pd.DataFrame | None = None) -> FitFile | None:
    """Fit every format measured on a device; None where nobody measured it. Arguments as of `gemm_datasets`."""
    fits = [fit_kernel(dataset) for dataset in preferred(gemm_datasets(data, device, own))]
    return FitFile(device=device, operator="gemm", date=date, fit=fits) if fits else None


def _dataset(spec: GpuSpec, dtype: str, weight_dtype: str, origin: str, rows: pd.DataFrame) -> Dataset:
    narrow = bytes_per_element(dtype) == 1.0
    # our own 8-bit products are given 8-bit operands; a served model rounds its activations first
    rounded = narrow and origin != OWN
    names = [*START, *(QUANTISE_START if rounded else ())]
    facts = {name: PRIOR[name][0] for name in QUANTISE_START} if narrow and not rounded else {}

    def price(parameters: Mapping[str, float], points: Timings) -> Price:
        used = {name: value for name, value in parameters.items() if name not in facts}
        return price_timings(spec, dtype, weight_dtype, used, points)

    return Dataset(
        device=spec.name,
        operator="gemm",
        key=f"{alike(dtype)}/{alike(weight_dtype)}",
        origin=origin,
        timings=gemm_timings(spec, rows),
        price=price,
        start={name: PRIOR[name][0] if name in PRIOR else START[name] for name in names},
        prior={name: spread for name, (_, spread) in PRIOR.items()},
        regions=("m", "n", "k"),
        source=Source(grade="measured", text=ORIGINS[origin]),
        facts=facts,
    )


def gemm_timings(spec: GpuSpec, rows: pd.DataFrame) -> Timings:
    """A table of one format as timings; products whose weights a benchmark kept in the L2 are not typical."""
    sizes = {name: rows[name].to_numpy(float) for name in ("m", "n", "k", "copies")}
    width = rows["weight_dtype"].map(bytes_per_element).to_numpy(float)
    held = sizes["copies"] * sizes["n"] * sizes["k"] * width
    typical = (sizes["copies"] == 0) | (held > WARM_SHARE * spec.l2_bytes)
    return Timings(sizes=sizes, seconds=rows["seconds"].to_numpy(float), typical=np.asarray(typical))


def price_timings(
    spec: GpuSpec, dtype: str, weight_dtype: str, parameters: Mapping[str, float], points: Timings
) -> Price:
    """Predicted prices of measured points, under the conditions they were measured in."""
    sizes = points.sizes
    op = Gemm(m=sizes["m"], n=sizes["n"], k=sizes["k"], dtype=dtype, weight_dtype=weight_dtype)
    return price_gemm(op, parameters, spec, spec.peak_flop_per_s[dtype], weight_copies=sizes["copies"])
