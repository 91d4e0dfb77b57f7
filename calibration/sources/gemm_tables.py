"""Published GEMM timings as `gemm` tables: m, n, k, dtype, weight_dtype, seconds, and how the benchmark was run.

`copies` is the number of weight matrices the benchmark rotated through; small ones then stayed in the L2, which a
served model's never do. 0 means that every read came from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

# AI Configurator rotates through six weight matrices: bandwidth above the memory's ends where six fill the L2.
AICONFIGURATOR_COPIES = 6
AICONFIGURATOR = {"a100-80gb-sxm": "a100_sxm", "h100-sxm": "h100_sxm", "l40s": "l40s"}
AICONFIGURATOR_DTYPES = {
    "bfloat16": ("bf16", "bf16"),
    "fp8": ("fp8", "fp8"),
    "int8_wo": ("bf16", "int8"),
    "int4_wo": ("bf16", "int4"),
    "sq": ("int8", "int8"),
}
VIDUR = {"a100-80gb-sxm": "a100", "a40": "a40", "h100-sxm": "h100"}
VIDUR_LAYERS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
LLMSERVINGSIM_DENSE = {"rtx-4090": "RTX4090", "rtx-pro-6000": "RTXPRO6000"}
LLMSERVINGSIM_LAYERS = {"a6000": "A6000", "h100-sxm": "H100"}
KEYS = ["m", "n", "k", "dtype", "weight_dtype", "copies"]


def gemm_tables(data: Path, device: str) -> pd.DataFrame:
    """All published GEMM timings of a device (a catalog name): columns KEYS, seconds, origin; empty where none."""
    readers: list[Callable[[Path, str], list[pd.DataFrame]]] = [_aiconfigurator, _vidur, _profiles, _layers]
    parts = [part for reader in readers for part in reader(data, device)]
    if not parts:
        return pd.DataFrame(columns=[*KEYS, "seconds", "origin"])
    table = pd.concat(parts, ignore_index=True)
    table = table[np.isfinite(table["seconds"]) & (table["seconds"] > 0)]
    medians: pd.DataFrame = table.groupby([*KEYS, "origin"], as_index=False)["seconds"].median()
    return medians


def _aiconfigurator(data: Path, device: str) -> list[pd.DataFrame]:
    system = AICONFIGURATOR.get(device)
    parts = []
    for library in ("vllm", "trtllm"):
        path = data / "aiconfigurator" / f"{library}_gemm_{system}.parquet"
        if system is None or not path.is_file():
            continue
        raw = pd.read_parquet(path)
        raw = raw[raw["gemm_dtype"].isin(AICONFIGURATOR_DTYPES)]
        formats = raw["gemm_dtype"].astype(str).map(AICONFIGURATOR_DTYPES)
        # the source's sizes are 16- and 32-bit integers, whose products overflow
        part = raw[["m", "n", "k"]].astype(np.float64)
        part["dtype"], part["weight_dtype"] = formats.str[0], formats.str[1]
        part["copies"] = AICONFIGURATOR_COPIES
        part["seconds"] = raw["latency"] * 1e-3
        part["origin"] = f"aiconfigurator/{library}"
        parts.append(part)
    return parts


def _vidur(data: Path, device: str) -> list[pd.DataFrame]:
    """Layers of eight models, each run alone in a loop, so that its one weight matrix stays where it fits."""
    parts = []
    for path in sorted((data / "vidur").glob(f"compute_{VIDUR.get(device, '-')}_*_mlp.parquet")):
        raw = pd.read_parquet(path)
        tp = raw["num_tensor_parallel_workers"].astype(float)
        head = raw["n_embd"] / raw["n_head"]
        gates = np.where(raw["use_gated_mlp"].astype(bool), 2.0, 1.0)
        kv_heads = np.maximum(raw["n_kv_head"] / tp, 1.0)
        shapes = {
            "attn_pre_proj": ((raw["n_head"] / tp + 2 * kv_heads) * head, raw["n_embd"]),
            "attn_post_proj": (raw["n_embd"], raw["n_embd"] / tp),
            "mlp_up_proj": (gates * raw["n_expanded_embd"] / tp, raw["n_embd"]),
            "mlp_down_proj": (raw["n_embd"], raw["n_expanded_embd"] / tp),
        }
        for layer in VIDUR_LAYERS:
            n, k = shapes[layer]
            seconds = raw[f"time_stats.{layer}.median"] * 1e-3
            parts.append(_half_precision(raw["num_tokens"], n, k, seconds, copies=1, origin="vidur"))
    return parts


# Hidden size, query and KV width, and MLP width of the models in LLMServingSim's profiles.
PROFILED = {
    "meta-llama_Llama-3.1-8B": (4096, 4096, 1024, 14336, 128256),
    "meta-llama_Llama-3.1-70B": (8192, 8192, 1024, 28672, 128256),
    "Qwen_Qwen3-32B": (5120, 8192, 1024, 25600, 151936),
    "Qwen_Qwen3-30B-A3B-Instruct-2507": (2048, 4096, 512, 0, 151936),
    "mistralai_Mixtral-8x7B-v0.1": (4096, 4096, 1024, 0, 32000),
    "microsoft_Phi-mini-MoE-instruct": (4096, 4096, 1024, 0, 32064),
}


def _profiles(data: Path, device: str) -> list[pd.DataFrame]:
    """Fused projections timed inside a running vLLM, layer after layer: weights come from memory."""
    parts = []
    name = LLMSERVINGSIM_DENSE.get(device, "-")
    for path in sorted((data / "llmservingsim").glob(f"{name}_*_dense.csv.gz")):
        model, tp = model_and_tp(path.name.removeprefix(f"{name}_").replace("_bf16", ""))
        shapes = _fused_shapes(model, tp)
        raw = pd.read_csv(path)
        heads = pd.read_csv(path.with_name(path.name.replace("_dense", "_per_sequence")))
        raw = pd.concat([raw, heads.rename(columns={"sequences": "tokens"})])
        for layer, (n, k) in shapes.items():
            rows = raw[raw["layer"] == layer]
            parts.append(
                _half_precision(rows["tokens"], n, k, rows["time_us"] * 1e-6, copies=0, origin="llmservingsim")
            )
    return parts


def _layers(data: Path, device: str) -> list[pd.DataFrame]:
    """Unfused projections of Hugging Face's modules, one after another (ns)."""
    parts = []
    name = LLMSERVINGSIM_LAYERS.get(device, "-")
    for path in sorted((data / "llmservingsim").glob(f"{name}_*_layers.parquet")):
        model, tp = model_and_tp(path.name.removeprefix(f"{name}_"))
        hidden, query, kv, mlp, vocab = PROFILED[model]
        shapes = {"q_proj": (query // tp, hidden), "k_proj": (kv // tp, hidden), "v_proj": (kv // tp, hidden),
                  "o_proj": (hidden, query // tp), "lm_head": (vocab // tp, hidden)}  # fmt: skip
        if mlp:
            shapes |= {
                "gate_proj": (mlp // tp, hidden),
                "up_proj": (mlp // tp, hidden),
                "down_proj": (hidden, mlp // tp),
            }
        raw = pd.read_parquet(path)
        for layer, (n, k) in shapes.items():
            rows = raw[raw["layer_name"] == layer]
            seconds = rows["latency(ns)"] * 1e-9
            parts.append(_half_precision(rows["input"], n, k, seconds, copies=0, origin="llmservingsim/layers"))
    return parts


def model_and_tp(name: str) -> tuple[str, int]:
    """Model and tensor parallelism of a profile's file name, as MODEL_tp2_rest."""
    model, _, rest = name.rpartition("_tp")
    return model, int(rest.partition("_")[0])


def _fused_shapes(model: str, tp: int) -> dict[str, tuple[int, int]]:
    hidden, query, kv, mlp, vocab = PROFILED[model]
    shapes = {
        "qkv_proj": ((query + 2 * kv) // tp, hidden),
        "o_proj": (hidden, query // tp),
        "lm_head": (vocab // tp, hidden),
    }
    return shapes | ({"gate_up_proj": (2 * mlp // tp, hidden), "down_proj": (hidden, mlp // tp)} if mlp else {})


def _half_precision(
    m: pd.Series, n: pd.Series | int, k: pd.Series | int, seconds: pd.Series, copies: int, origin: str
) -> pd.DataFrame:
    table = pd.DataFrame({"m": m.astype(float), "n": n, "k": k})
    return table.assign(dtype="bf16", weight_dtype="bf16", copies=copies, seconds=seconds, origin=origin)
