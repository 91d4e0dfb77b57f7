"""Published timings of mixture-of-experts layers as `moe` tables: both projections, the activation and the sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

AICONFIGURATOR = {"a100-80gb-sxm": "a100_sxm", "h100-sxm": "h100_sxm", "l40s": "l40s"}
FORMATS = {"bfloat16": ("bf16", "bf16"), "fp8": ("fp8", "fp8")}
LIBRARIES = ("vllm", "trtllm")
NOT_GATED = "nongated"  # layers of two products without a gate
KEYS = ["tokens", "hidden", "intermediate", "experts", "top_k", "balanced", "dtype", "weight_dtype"]


def moe_tables(data: Path, device: str, library: str = "vllm") -> pd.DataFrame:
    """Timings of one rank's experts: columns KEYS, seconds, origin; `experts` and `top_k` count what the rank holds.

    library: whose kernels, one of LIBRARIES.
    Skewed routing over several ranks is left out: which rank was timed is not known.
    """
    path = data / "aiconfigurator" / f"{library}_moe_{AICONFIGURATOR.get(device, '-')}.parquet"
    if not path.is_file():
        return pd.DataFrame(columns=[*KEYS, "seconds", "origin"])
    raw = pd.read_parquet(path)
    balanced = raw["distribution"].astype(str) == "balanced"
    raw = raw[~raw["kernel_source"].astype(str).str.contains(NOT_GATED)]
    raw = raw[raw["moe_dtype"].isin(FORMATS) & (balanced | (raw["moe_ep_size"] == 1))]
    formats = raw["moe_dtype"].astype(str).map(FORMATS)
    ranks = raw["moe_ep_size"].astype(np.float64)
    table = pd.DataFrame(
        {
            "tokens": raw["num_tokens"].astype(np.float64),
            "hidden": raw["hidden_size"].astype(np.float64),
            "intermediate": raw["inter_size"].astype(np.float64) / raw["moe_tp_size"],
            "experts": raw["num_experts"] / ranks,
            "top_k": raw["topk"] / ranks,
            "balanced": raw["distribution"].astype(str) == "balanced",
            "dtype": formats.str[0],
            "weight_dtype": formats.str[1],
            "seconds": raw["latency"] * 1e-3,
        }
    )
    table = table[table["tokens"] * table["top_k"] >= 1.0]
    medians = table.groupby(KEYS, as_index=False)[["seconds"]].median()
    return medians.assign(origin=f"aiconfigurator/{library}")
