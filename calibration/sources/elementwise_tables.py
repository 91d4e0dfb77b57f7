"""Published timings of norms, activations, rotations, sums and gathers as `elementwise` tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from calibration.sources.gemm_tables import LLMSERVINGSIM_DENSE, PROFILED, VIDUR, model_and_tp

COLUMNS = ["name", "rows", "width", "reads", "writes", "seconds", "origin"]
# Vidur times the plain norm (one pass in, one out); vLLM's own sums the residual in the same kernel (two in, two out).
VIDUR_PASSES = {"input_layernorm": (1, 1), "attn_rope": (1, 1), "mlp_act": (2, 1), "add": (2, 1)}
VLLM_PASSES = {"layernorm": (2, 2), "rotary_emb": (1, 1), "act_fn": (2, 1)}


def elementwise_tables(data: Path, device: str) -> pd.DataFrame:
    """All published timings of a device: columns COLUMNS; empty where none."""
    parts = [*_vidur(data, device), *_profiles(data, device)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _vidur(data: Path, device: str) -> list[pd.DataFrame]:
    parts = []
    for path in sorted((data / "vidur").glob(f"compute_{VIDUR.get(device, '-')}_*_mlp.parquet")):
        raw = pd.read_parquet(path)
        tp = raw["num_tensor_parallel_workers"].astype(float)
        widths = {
            "input_layernorm": raw["n_embd"],
            "attn_rope": (raw["n_head"] + raw["n_kv_head"]) * (raw["n_embd"] / raw["n_head"]) / tp,
            "mlp_act": raw["n_expanded_embd"] / tp,
            "add": raw["n_embd"],
        }
        for name, (reads, writes) in VIDUR_PASSES.items():
            column = f"time_stats.{name}.median"
            if column in raw:
                seconds = raw[column] * 1e-3
                parts.append(_table(name, raw["num_tokens"], widths[name], reads, writes, seconds, "vidur"))
    return parts


def _profiles(data: Path, device: str) -> list[pd.DataFrame]:
    parts = []
    name = LLMSERVINGSIM_DENSE.get(device, "-")
    for path in sorted((data / "llmservingsim").glob(f"{name}_*_dense.csv.gz")):
        model, tp = model_and_tp(path.name.removeprefix(f"{name}_").replace("_bf16", ""))
        hidden, query, kv, mlp, _ = PROFILED[model]
        widths = {"layernorm": hidden, "rotary_emb": (query + kv) // tp, "act_fn": mlp // tp}
        raw = pd.read_csv(path)
        for layer, (reads, writes) in VLLM_PASSES.items():
            rows = raw[raw["layer"] == layer]
            seconds = rows["time_us"] * 1e-6
            parts.append(_table(layer, rows["tokens"], widths[layer], reads, writes, seconds, "llmservingsim"))
    return [part for part in parts if len(part)]


def _table(
    name: str, rows: pd.Series, width: pd.Series | int, reads: int, writes: int, seconds: pd.Series, origin: str
) -> pd.DataFrame:
    table = pd.DataFrame({"rows": rows.astype(float), "width": width, "seconds": seconds})
    table = table.assign(name=name, reads=reads, writes=writes, origin=origin)
    return table[table["seconds"] > 0]
