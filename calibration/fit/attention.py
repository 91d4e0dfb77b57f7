"""Fits prompt and decode attention, one fit a pair of formats and kernel."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.fit.kernel import Dataset, Timings, fit_kernel
from calibration.fit.origins import ORIGINS, preferred
from calibration.sources.attention_tables import decode_tables, own_table, prefill_tables
from hardware_models import catalog
from hardware_models.calibrated_kernel import alike
from hardware_models.fits import FitFile
from hardware_models.kernels import attention_decode, attention_prefill
from hardware_models.kernels.attention_keys import decode_kernel, prefill_kernel
from hardware_models.ops import AttentionDecode, AttentionPrefill
from hardware_models.price import Price
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

SHAPE = ("heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "window")
PHASES = ("attention_prefill", "attention_decode")


def attention_datasets(operator: str, data: Path | None, device: str, own: pd.DataFrame | None = None) -> list[Dataset]:
    """Every kernel, format and benchmark of one of PHASES on a device; empty where nobody measured it.

    data: folder of published tables, None: none. own: our own measurements of this phase.
    """
    prefill = operator == "attention_prefill"
    tables = [(prefill_tables if prefill else decode_tables)(data, device)] if data is not None else []
    if own is not None:
        tables.append(own_table(own))
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    return attention_sets(operator, catalog.gpu(device), pd.concat(tables, ignore_index=True))


def attention_sets(operator: str, spec: GpuSpec, table: pd.DataFrame) -> list[Dataset]:
    """Of a table as `calibration.sources.attention_tables` reads it one data set a kernel, format and benchmark."""
    return [
        (_prefill if operator == "attention_prefill" else _decode)(
            spec, f"{alike(str(dtype))}/{alike(str(kv_dtype))}" + (f":{kernel}" if kernel else ""), str(origin), rows
        )
        for (dtype, kv_dtype, kernel, origin), rows in table.groupby(["dtype", "kv_dtype", "kernel", "origin"])
        if dtype in spec.peak_flop_per_s
    ]


def fit_attention(
    data: Path | None,
    device: str,
    date: datetime.date,
    own_prefill: pd.DataFrame | None = None,
    own_decode: pd.DataFrame | None = None,
) -> list[FitFile]:
    """Fit every kernel and format measured on a device: a file a phase, none where nobody measured it.

    data: folder of published tables, None: none. own_prefill, own_decode: our own measurements, preferred to
    published ones.
    """
    files = []
    for operator, own in zip(PHASES, (own_prefill, own_decode), strict=True):
        fits = [fit_kernel(dataset) for dataset in preferred(attention_datasets(operator, data, device, own))]
        if fits:
            files.append(FitFile(device=device, operator=operator, date=date, fit=fits))
    return files


def _prefill(spec: GpuSpec, key: str, origin: str, rows: pd.DataFrame) -> Dataset:
    kernel = prefill_kernel(spec.architecture, key)
    dtype, kv_dtype = key.partition(":")[0].split("/")
    return Dataset(
        device=spec.name,
        operator="attention_prefill",
        key=key,
        origin=origin,
        timings=attention_timings(rows, ("batch", "new_tokens", "past_tokens", *SHAPE)),
        price=lambda p, points: price_prefill_timings(spec, dtype, kv_dtype, {**p, **kernel.facts}, points),
        start=attention_prefill.START,
        prior={name: spread for name, (_, spread) in attention_prefill.PRIOR.items()},
        regions=("batch", "new_tokens", "past_tokens", "heads"),
        source=Source(grade="measured", text=f"{kernel.name}; {ORIGINS[origin]}"),
        facts=kernel.facts,
    )


def _decode(spec: GpuSpec, key: str, origin: str, rows: pd.DataFrame) -> Dataset:
    kernel = decode_kernel(spec.architecture, key)
    dtype, kv_dtype = key.partition(":")[0].split("/")
    return Dataset(
        device=spec.name,
        operator="attention_decode",
        key=key,
        origin=origin,
        timings=attention_timings(rows, ("batch", "context_tokens", *SHAPE)),
        price=lambda p, points: price_decode_timings(spec, dtype, kv_dtype, {**p, **kernel.facts}, points),
        start=attention_decode.START,
        prior={name: spread for name, (_, spread) in attention_decode.PRIOR.items()},
        regions=("batch", "context_tokens", "heads"),
        source=Source(grade="measured", text=f"{kernel.name}; {ORIGINS[origin]}"),
        facts=kernel.facts,
    )


def attention_timings(rows: pd.DataFrame, names: tuple[str, ...]) -> Timings:
    """A table of one kernel as timings, all of which count alike; whether the cache held their tensors is a size."""
    sizes = {name: rows[name].to_numpy(float) for name in (*names, "cache_resident")}
    return Timings(sizes=sizes, seconds=rows["seconds"].to_numpy(float), typical=np.ones(len(rows), bool))


def price_prefill_timings(
    spec: GpuSpec, dtype: str, kv_dtype: str, parameters: Mapping[str, float], points: Timings
) -> Price:
    """Predicted prices of measured points, under the conditions they were measured in."""
    prices, order = [], []
    for window in np.unique(points.sizes["window"]):
        chosen = np.flatnonzero(points.sizes["window"] == window)
        part = {name: values[chosen] for name, values in points.sizes.items()}
        pairs, kv_tokens = visible(part["new_tokens"], part["past_tokens"], float(window))
        op = AttentionPrefill(
            pairs=part["batch"] * pairs,
            queries=part["batch"] * part["new_tokens"],
            kv_tokens=part["batch"] * kv_tokens,
            sequences=part["batch"],
            heads=part["heads"],
            kv_heads=part["kv_heads"],
            qk_dim=part["qk_dim"],
            v_dim=part["v_dim"],
            kv_width=part["kv_width"],
            dtype=dtype,
            kv_dtype=kv_dtype,
            window=int(window),
        )
        lines = attention_prefill.prefill_lines(op, parameters, spec, bool(part["cache_resident"].any()))
        prices.append(lines.price(part["batch"] * pairs, part["batch"] * kv_tokens))
        order.append(chosen)
    return _reordered(prices, np.concatenate(order))


def visible(new: Floats, past: Floats, window: float) -> tuple[Floats, Floats]:
    """(query, key) pairs and keys that `new` tokens after `past` see, each at most `window` with itself (0: all)."""
    if not window:
        return new * past + new * (new + 1.0) / 2.0, new + past
    growing = np.clip(window - past, 0.0, new)  # queries that still see everything
    pairs = growing * past + growing * (growing + 1.0) / 2.0 + (new - growing) * window
    return pairs, new + np.minimum(past, window - 1.0)


def price_decode_timings(
    spec: GpuSpec, dtype: str, kv_dtype: str, parameters: Mapping[str, float], points: Timings
) -> Price:
    """Predicted prices of measured points, under the conditions they were measured in."""
    s = points.sizes
    seen = np.where(s["window"] > 0, np.minimum(s["context_tokens"], s["window"]), s["context_tokens"])
    op = AttentionDecode(
        pairs=s["batch"] * seen,
        queries=s["batch"],
        kv_tokens=s["batch"] * seen,
        heads=s["heads"],
        kv_heads=s["kv_heads"],
        qk_dim=s["qk_dim"],
        v_dim=s["v_dim"],
        kv_width=s["kv_width"],
        dtype=dtype,
        kv_dtype=kv_dtype,
    )
    return attention_decode.price_decode(op, parameters, spec, bool(s["cache_resident"].any()))


def _reordered(prices: list[Price], order: NDArray[np.int64]) -> Price:
    back = np.argsort(order, kind="stable")
    parts = [np.concatenate([getattr(p, name) for p in prices]) for name in ("launch_s", "compute_s", "memory_s")]
    return Price(*(part[back] for part in parts))
