"""Folders of made-up measurements: what devices that obey the formulas but for noise would have measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.fit.attention import attention_timings, price_decode_timings, price_prefill_timings
from calibration.fit.collectives import Timings as LinkTimings
from calibration.fit.collectives import predict
from calibration.fit.elementwise import elementwise_timings, price_passes
from calibration.fit.gemm import gemm_timings, price_timings
from calibration.fit.moe import moe_timings, price_layer
from calibration.measurement import write_device, write_rows
from calibration.measurement_kinds import KINDS
from calibration.sources.attention_tables import own_table
from hardware_models import catalog
from hardware_models.kernels import attention_decode, attention_prefill, elementwise, gemm, grouped_gemm
from hardware_models.link_parameters import link_efficiencies

NOISE = 0.02
SHAPES = [(32, 8, 128), (8, 1, 128), (64, 64, 64), (16, 2, 64)]  # heads, KV heads, head dimension
TRUTH: dict[str, dict[str, float]] = {
    "gemm": {name: mean for name, (mean, _) in gemm.PRIOR.items() if not name.startswith("quantise")}
    | {"compute_fraction": 0.8, "memory_fraction": 0.9, "launch_s": 3e-6},
    "moe": grouped_gemm.START | {"launch_s": 2e-5, "memory_fraction": 0.8},
    "elementwise": elementwise.START | {"launch_s": 4e-6, "memory_fraction": 0.7},
    "attention_prefill": attention_prefill.START
    | {"operand_clocks": 0.2, "launch_s": 5e-6}
    | attention_prefill.FLASH_ATTENTION_2,
    "attention_decode": attention_decode.START | {"memory_fraction": 0.9, "launch_s": 5e-6} | attention_decode.PACKED,
}


def write_folder(folder: Path, device: str, kinds: tuple[str, ...], noise: float = NOISE, points: int = 600) -> Path:
    """A folder as `fleetcast calibrate measure` writes it, of `points` at most a kind."""
    write_device(folder, {"device": device, "date": "2026-01-02"})
    rng = np.random.default_rng(5)
    for kind in kinds:
        table = collective_table(device) if kind == "collective" else MAKERS[kind](device)
        table = table.sample(min(points, len(table)), random_state=1)
        noisy = table["seconds"] * np.exp(noise * rng.standard_normal(len(table)))
        table = table.assign(seconds=noisy, spread_s=0.0, repeats=9)
        names = [column.name for column in KINDS[kind].columns if not column.optional]
        rows: list[Any] = table[names].to_dict("records")
        write_rows(folder / f"{kind}.csv", KINDS[kind], rows)
    return folder


def grid(**values: list[int] | list[str]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(list(values.values()), names=list(values)).to_frame(index=False)


def gemm_table(device: str) -> pd.DataFrame:
    table = grid(
        m=[1, 4, 16, 64, 200, 512, 1024, 4096, 8192], n=[512, 2048, 5120, 8192, 16384], k=[512, 1024, 4096, 8192, 14336]
    )
    table = table.assign(dtype="bf16", weight_dtype="bf16")
    spec = catalog.gpu(device)
    timings = gemm_timings(spec, table.assign(copies=0, seconds=1.0))
    return table.assign(seconds=price_timings(spec, "bf16", "bf16", TRUTH["gemm"], timings).seconds)


def moe_table(device: str) -> pd.DataFrame:
    table = grid(tokens=[1, 8, 32, 128, 512, 2048, 8192], hidden=[2048, 4096, 7168], intermediate=[768, 2048, 14336])
    table = table.merge(pd.DataFrame({"experts": [8, 64, 128], "top_k": [2, 6, 8]}), how="cross")
    table = table.assign(skew=0.0, dtype="bf16", weight_dtype="bf16")
    timings = moe_timings(table.assign(balanced=True, seconds=1.0))
    return table.assign(seconds=price_layer(catalog.gpu(device), "bf16", "bf16", TRUTH["moe"], timings).seconds)


def elementwise_table(device: str) -> pd.DataFrame:
    table = grid(rows=[1, 16, 64, 256, 1024, 4096, 16384, 65536], width=[1024, 2048, 4096, 8192, 14336])
    kinds = pd.DataFrame({"name": ["rmsnorm", "add_rmsnorm", "silu_mul"], "reads": [1, 2, 2], "writes": [1, 2, 1]})
    table = table.merge(kinds, how="cross").assign(dtype="bf16")
    timings = elementwise_timings(table.assign(seconds=1.0))
    return table.assign(seconds=price_passes(catalog.gpu(device), TRUTH["elementwise"], timings).seconds)


def prefill_table(device: str) -> pd.DataFrame:
    table = _attention(grid(batch=[1, 2, 8, 32], new_tokens=[64, 256, 1024, 4096, 16384], past_tokens=[0, 4096]))
    table = table[table["batch"] * table["new_tokens"] <= 2**17].reset_index(drop=True)
    names = ("batch", "new_tokens", "past_tokens", "heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "window")
    points = attention_timings(own_table(table).assign(seconds=1.0), names)
    price = price_prefill_timings(catalog.gpu(device), "bf16", "bf16", TRUTH["attention_prefill"], points)
    return table.assign(seconds=price.seconds)


def decode_table(device: str) -> pd.DataFrame:
    table = _attention(grid(batch=[1, 2, 8, 32, 128], context_tokens=[128, 512, 2048, 4096, 8192, 32768]))
    table = table[table["batch"] * table["context_tokens"] <= 2**19].reset_index(drop=True).assign(skew=0.0)
    names = ("batch", "context_tokens", "heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "window")
    points = attention_timings(own_table(table).assign(seconds=1.0), names)
    price = price_decode_timings(catalog.gpu(device), "bf16", "bf16", TRUTH["attention_decode"], points)
    return table.assign(seconds=price.seconds)


def collective_table(device: str) -> pd.DataFrame:
    link = catalog.link(str(catalog.gpu(device).scale_up))
    sizes = [2**power for power in range(10, 30, 2)]
    table = grid(kind=["all_reduce", "all_gather", "reduce_scatter"], ranks=[2, 4, 8], payload_bytes=sizes)
    table = table.assign(dtype="bf16", backend="nccl", link="scale-up")
    times = predict(link, "nccl", link_truth(device), LinkTimings.of(table.assign(seconds=1.0)))
    return table.assign(seconds=times.seconds)


def link_truth(device: str) -> Mapping[str, float]:
    link = catalog.link(str(catalog.gpu(device).scale_up))
    usual = link_efficiencies()[link.kind].nccl
    present = {
        name: value for name, value in usual.items() if link.in_switch_reduction or not name.startswith("switch_")
    }
    return present | {"wire_fraction": 0.6}


def _attention(sizes: pd.DataFrame) -> pd.DataFrame:
    shapes = pd.DataFrame(SHAPES, columns=["heads", "kv_heads", "head_dim"])
    return sizes.merge(shapes, how="cross").assign(dtype="bf16", kv_dtype="bf16", window=0)


MAKERS = {
    "gemm": gemm_table,
    "moe": moe_table,
    "elementwise": elementwise_table,
    "attention_prefill": prefill_table,
    "attention_decode": decode_table,
}
