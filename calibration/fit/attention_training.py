"""Fits training attention, forward and backward, one fit an implementation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from calibration.fit.kernel import Dataset, Timings, fit_kernel
from calibration.fit.origins import ORIGINS, preferred
from calibration.sources.training_tables import training_tables
from hardware_models import catalog
from hardware_models.fits import FitFile
from hardware_models.kernels.attention_training import PRIOR, START, price_attention_training
from hardware_models.ops import AttentionTraining
from hardware_models.price import Price
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec

OPERATOR = "attention_training"
FEWEST_POINTS = 20  # a figure has two dozen bars, and priors stand behind every parameter
KEPT_OUT_SHARE = 1.0 / 3.0  # of the sequence lengths: two of six
DTYPE = "bf16"


def training_datasets(data: Path | None, device: str) -> list[Dataset]:
    """Every implementation timed on a device (a catalog name); empty where nobody was.

    data: folder of published tables, None: none.
    """
    if data is None:
        return []
    table = training_tables(data)
    return [
        training_set(catalog.gpu(device), str(implementation), rows, str(origin))
        for (implementation, origin), rows in table[table["device"] == device].groupby(["implementation", "origin"])
    ]


def fit_attention_training(data: Path | None, device: str, date: datetime.date) -> FitFile | None:
    """Fit every implementation timed on a device; None where nobody was."""
    fits = [fit_kernel(dataset) for dataset in preferred(training_datasets(data, device))]
    return FitFile(device=device, operator=OPERATOR, date=date, fit=fits) if fits else None


def training_set(spec: GpuSpec, implementation: str, rows: pd.DataFrame, origin: str) -> Dataset:
    """One implementation's timings on one device, of a table as `calibration.sources.training_tables` reads it."""
    return Dataset(
        device=spec.name,
        operator=OPERATOR,
        key=f"{DTYPE}/{implementation}",
        origin=origin,
        timings=training_timings(rows),
        price=lambda parameters, points: price_passes(spec, implementation, parameters, points),
        start=START,
        prior={name: spread for name, (_, spread) in PRIOR.items()},
        regions=("queries",),
        source=Source(grade="quoted", text=ORIGINS[origin]),
        fewest_points=FEWEST_POINTS,
        kept_out_share=KEPT_OUT_SHARE,
    )


def training_timings(rows: pd.DataFrame) -> Timings:
    """A table of one implementation as timings; `backward` is 1 where both passes were timed together."""
    names = {"batch": "batch", "queries": "seq_len", "keys": "seq_len", "heads": "heads", "kv_heads": "heads",
             "qk_dim": "head_dim", "v_dim": "head_dim", "causal": "causal"}  # fmt: skip
    sizes = {name: rows[column].to_numpy(float) for name, column in names.items()}
    sizes["rows"] = sizes["batch"] * sizes["queries"] * sizes["heads"]
    sizes["backward"] = (rows["passes"] == "forward_backward").to_numpy(float)
    return Timings(sizes=sizes, seconds=rows["seconds"].to_numpy(float), typical=np.ones(len(rows), dtype=bool))


def price_passes(spec: GpuSpec, implementation: str, parameters: Mapping[str, float], points: Timings) -> Price:
    """Predicted prices of forward passes, and of both where both were timed."""
    parts = np.zeros((3, len(points.seconds)))
    for causal in (False, True):
        for backward in (False, True):
            chosen = (points.sizes["causal"] == causal) & (points.sizes["backward"] >= backward)
            names = ("batch", "queries", "keys", "heads", "kv_heads", "qk_dim", "v_dim")
            sizes = {name: points.sizes[name][chosen] for name in names}
            op = AttentionTraining(
                **sizes, dtype=DTYPE, causal=causal, backward=backward, implementation=implementation
            )
            price = price_attention_training(op, parameters, spec)
            parts[:, chosen] += (price.launch_s, price.compute_s, price.memory_s)
    return Price(*parts)
