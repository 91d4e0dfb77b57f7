"""Published watts of GPUs that serve language models, and of one at locked clocks, as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SERVED = [
    "model", "ranks", "batch", "prompt_tokens", "output_tokens", "seconds", "watts", "itl_s", "task", "origin",
]  # fmt: skip
CLOCKS = ["clock_hz", "watts", "origin"]
ML_ENERGY_GPUS = {"h100-sxm": "H100"}
ML_ENERGY_MODELS = {
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
}
SPLITWISE_GPUS = {"a100-80gb-sxm": ("a100-80gb", 400.0)}  # name there, and the TDP that its powers are shares of
# Means of longer prompts fall below those of decoding alone: they include pauses between requests.
SPLITWISE_LONGEST_PROMPT = 512
# Rows that power is fitted on, by origin: those with one value in a column. All others judge it, here and in studies.
FITTED = {"ml_energy": ("task", "gpqa"), "splitwise": ("model", "bloom-176b")}
# 474 W at 1,410 MHz of a 400 W card: a 500 W variant, near its limit, so that times stop falling there.
PERSEUS_GPUS = {"a100-80gb-sxm": "A100-80GB SXM"}
PERSEUS_FREE_HZ = 1.33e9  # below it the clock is what was asked for


def served_tables(data: Path, device: str) -> pd.DataFrame:
    """Whole servers: columns SERVED; empty where none.

    `watts` of one GPU, averaged over `seconds`, in which the server reads the prompts of `batch` requests and writes
    their answers, all at once (Splitwise) or one after another (ML.ENERGY, where prompt_tokens and itl_s are NaN or
    the median; the prompts' lengths are not published).
    """
    parts = [_ml_energy(data, device), _splitwise(data, device)]
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=SERVED)


def fitted_rows(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows of `served_tables` power is fitted on: (rows,)."""
    chosen = [(table["origin"] == origin) & (table[column] == value) for origin, (column, value) in FITTED.items()]
    return np.asarray(np.logical_or.reduce([part.to_numpy(bool) for part in chosen]))


def clock_tables(claims: Path, device: str) -> pd.DataFrame:
    """Watts of one GPU that computes without a pause at a locked clock: columns CLOCKS; empty where none.

    claims: folder of published figures. Source: Perseus (arXiv 2312.06902), forward and backward of a pipeline stage.
    """
    path = claims / "power.csv"
    if device not in PERSEUS_GPUS or not path.is_file():
        return pd.DataFrame(columns=CLOCKS)
    raw = pd.read_csv(path)
    raw = raw[(raw["system"] == "GPU DVFS stage profile") & (raw["gpu"] == PERSEUS_GPUS[device])]
    clock = raw["policy_params"].str.extract(r"locked (\d+) MHz")[0].astype(float) * 1e6
    values = raw.assign(clock_hz=clock, value=raw["value"].astype(float))
    wide = values.pivot_table(index="clock_hz", columns="metric", values="value")
    parts = []
    for way in ("forward", "backward"):
        watts = wide[f"{way} energy per microbatch"] / wide[f"{way} time per microbatch"]
        parts.append(pd.DataFrame({"clock_hz": wide.index.to_numpy(), "watts": watts.to_numpy(), "origin": "perseus"}))
    table = pd.concat(parts, ignore_index=True)
    return table[table["clock_hz"] < PERSEUS_FREE_HZ].reset_index(drop=True)


def _ml_energy(data: Path, device: str) -> pd.DataFrame:
    path = data / "end_to_end" / "ml_energy_llm.csv.gz"
    if device not in ML_ENERGY_GPUS or not path.is_file():
        return pd.DataFrame(columns=SERVED)
    raw = pd.read_csv(path)
    raw = raw[(raw["gpu_model"] == ML_ENERGY_GPUS[device]) & raw["model"].isin(ML_ENERGY_MODELS)]
    seconds_a_step = raw["avg_batch_size"] / raw["output_throughput_tokens_per_sec"]
    return pd.DataFrame(
        {
            "model": raw["model"].map(ML_ENERGY_MODELS),
            "ranks": raw["num_gpus"],  # expert parallel over two GPUs loads them as tensor parallel does
            "batch": raw["avg_batch_size"],
            "prompt_tokens": float("nan"),
            "output_tokens": raw["avg_output_len"],
            "seconds": seconds_a_step * raw["avg_output_len"],
            "watts": raw["avg_power_watts"] / raw["num_gpus"],
            "itl_s": raw["median_itl_ms"] * 1e-3,
            "task": raw["task"],
            "origin": "ml_energy",
        }
    )


def _splitwise(data: Path, device: str) -> pd.DataFrame:
    path = data / "splitwise_sim" / "perf_model.csv"
    if device not in SPLITWISE_GPUS or not path.is_file():
        return pd.DataFrame(columns=SERVED)
    name, tdp_w = SPLITWISE_GPUS[device]
    raw = pd.read_csv(path)
    metered = (raw["hardware"] == name) & (raw["average_power"] > 0)
    raw = raw[metered & (raw["prompt_size"] <= SPLITWISE_LONGEST_PROMPT)]
    keys = ["model", "tensor_parallel", "batch_size", "prompt_size", "token_size"]
    median = raw.groupby(keys, as_index=False)[["average_power", "prompt_time", "token_time"]].median()
    decoding = median["token_time"] * (median["token_size"] - 1)
    return pd.DataFrame(
        {
            "model": median["model"].replace({"llama2-70b": "llama-2-70b"}),
            "ranks": median["tensor_parallel"],
            "batch": median["batch_size"].astype(float),
            "prompt_tokens": median["prompt_size"].astype(float),
            "output_tokens": median["token_size"].astype(float),
            "seconds": (median["prompt_time"] + decoding) * 1e-3,
            "watts": median["average_power"] * tdp_w,
            "itl_s": median["token_time"] * 1e-3,
            "task": "fixed",
            "origin": "splitwise",
        }
    )
