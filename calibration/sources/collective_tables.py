"""Published timings of collectives as `collective` tables: kind, ranks, payload_bytes, dtype, backend, link, seconds.

backend: nccl; nccl/mapped (over a host's bus, where devices reach each other's memory); custom (a serving engine's own
all-reduce, in a graph). link: a name of the catalog.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hardware_models import catalog
from hardware_models.collectives import custom_limit_bytes

KEYS = ["kind", "ranks", "payload_bytes", "dtype", "backend", "link"]
COMM_KERNELS = Path("end_to_end") / "comm_kernels.parquet"
SYSTEMS = {"a100_sxm": "nvlink3-switch", "h100_sxm": "nvlink4-switch", "l40s": "pcie4-x16"}
DTYPES = {"half": ("fp16", 2.0), "int8": ("int8", 1.0)}
CUSTOM_KERNELS = ("vLLM_custom_graph",)  # eager ones time the host; other engines' kernels are for comparison
PCIE_CUSTOM_RANKS = 2  # vLLM turns its kernel off for more ranks without NVLink: such rows are NCCL's
# Vidur: file -> (ranks, devices a node) -> link, backend. Rows across nodes ran over 100 Gb/s, or less. Its send_recv
# is the sender's time, which ends while the receiver's buffers are full: up to 1.1 of the datasheet's bandwidth.
VIDUR = {
    "a100_pairwise_nvlink_all_reduce": {(2, 2): ("nvlink3-pairs", "nccl"), (4, 4): ("pcie4-x16", "nccl/mapped")},
    "h100_pairwise_nvlink_all_reduce": {(2, 2): ("nvlink4-pairs", "nccl"), (4, 4): ("pcie5-x16", "nccl/mapped")},
}
# Below, Vidur's all-reduces wait for the slower rank's host, by 30 to 60 us: they ran eagerly.
VIDUR_BYTES = {
    "nvlink3-pairs": 8 << 20,
    "nvlink4-pairs": 4 << 20,
    "pcie4-x16": 1 << 19,
    "pcie5-x16": 1 << 19,
}


def collective_tables(data: Path) -> pd.DataFrame:
    """All published timings of collectives inside a server: columns KEYS, seconds, origin; empty where none."""
    parts = [part for reader in (_nccl, _custom, _vidur) for part in reader(data)]
    if not parts:
        return pd.DataFrame(columns=[*KEYS, "seconds", "origin"])
    table = pd.concat(parts, ignore_index=True)
    table = table[np.isfinite(table["seconds"]) & (table["seconds"] > 0)]
    medians: pd.DataFrame = table.groupby([*KEYS, "origin"], as_index=False)["seconds"].median()
    return medians


def _aiconfigurator(data: Path, table: str) -> pd.DataFrame | None:
    path = data / COMM_KERNELS
    if not path.is_file():
        return None
    raw = pd.read_parquet(path)
    raw = raw[(raw["table"].astype(str) == table) & raw["system"].astype(str).isin(SYSTEMS)]
    return raw.assign(link=raw["system"].astype(str).map(SYSTEMS), ranks=raw["num_gpus"].astype(float))


def _nccl(data: Path) -> list[pd.DataFrame]:
    raw = _aiconfigurator(data, "nccl_perf")
    if raw is None:
        return []
    part = raw[["link", "ranks"]].copy()
    part["kind"] = raw["op_name"].astype(str).replace("alltoall", "all_to_all")
    formats = raw["nccl_dtype"].astype(str).map(DTYPES)
    part["dtype"] = formats.str[0]
    # the source's sizes are elements
    part["payload_bytes"] = raw["message_size"].astype(np.float64) * formats.str[1].astype(np.float64)
    part["seconds"] = raw["latency"].astype(np.float64) * 1e-3
    # models add up floating point only, and a switch cannot add up int8
    sums = part["kind"].isin(("all_reduce", "reduce_scatter")) & (part["dtype"] == "int8")
    return [part[~sums].assign(backend="nccl", origin="aiconfigurator")]


def _custom(data: Path) -> list[pd.DataFrame]:
    raw = _aiconfigurator(data, "custom_allreduce_perf")
    if raw is None:
        return []
    raw = raw[raw["kernel_source"].astype(str).isin(CUSTOM_KERNELS)]
    part = raw[["link", "ranks"]].copy()
    part["payload_bytes"] = raw["message_size"].astype(np.float64) * 2.0  # elements of bf16
    part["seconds"] = raw["latency"].astype(np.float64) * 1e-3
    limits = [
        custom_limit_bytes(catalog.link(str(link)), int(ranks))
        for link, ranks in zip(part["link"], part["ranks"], strict=True)
    ]
    own = (part["payload_bytes"] < limits) & ((part["link"] != "pcie4-x16") | (part["ranks"] <= PCIE_CUSTOM_RANKS))
    return [part[own].assign(kind="all_reduce", dtype="bf16", backend="custom", origin="aiconfigurator")]


def _vidur(data: Path) -> list[pd.DataFrame]:
    """Medians of half-octaves of size: single rows ran once or thrice, and are rounded to a microsecond."""
    parts = []
    for name, groups in VIDUR.items():
        path = data / "vidur" / f"network_{name}.parquet"
        if not path.is_file():
            continue
        raw = pd.read_parquet(path)
        for (ranks, devices), (link, backend) in groups.items():
            rows = raw[(raw["num_workers"] == ranks) & (raw["devices_per_node"] == devices)]
            rows = rows[rows["size"] >= VIDUR_BYTES[link]]
            octave = np.round(2 * np.log2(rows["size"].astype(float)))
            sizes = rows["size"].astype(float).groupby(octave).median()
            seconds = rows["time_stats.all_reduce.median"].groupby(octave).median() * 1e-3
            part = pd.DataFrame({"payload_bytes": sizes, "seconds": seconds})
            part["ranks"] = float(ranks)
            parts.append(part.assign(kind="all_reduce", dtype="fp16", link=link, backend=backend, origin="vidur"))
    return parts
