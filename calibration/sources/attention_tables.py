"""Published attention timings as `attention_prefill` and `attention_decode` tables, in seconds, one row a point.

Beside the columns of our own tables: qk_dim, v_dim and kv_width in place of head_dim; `kernel`, what tells a kernel
from the device's usual one ("" is that); `cache_resident`, whether the benchmark repeated one kernel on the same
tensors, so that the last-level cache served them; and `origin`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.dtypes import bytes_per_element

SHAPE = ["heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "dtype", "kv_dtype", "window"]
PREFILL_KEYS = ["batch", "new_tokens", "past_tokens", *SHAPE, "kernel", "cache_resident", "origin"]
DECODE_KEYS = ["batch", "context_tokens", *SHAPE, "kernel", "cache_resident", "origin"]

AICONFIGURATOR = {"a100-80gb-sxm": "a100_sxm", "h100-sxm": "h100_sxm", "l40s": "l40s"}
# "" where vLLM would choose the kernel by itself: FlashInfer on Ada, whose FlashAttention takes no fp8 cache
AICONFIGURATOR_KERNELS = {
    "vllm_flash_attn": "",
    "vllm_flash_attn_fa2": "",
    "vllm_flash_attn_fa3": "",
    "vllm_flashinfer_fidecode": "",
    "vllm_flashinfer_fiprefill": "",
}
DTYPES = {"bfloat16": "bf16", "fp8": "fp8"}
# model of the profiles -> heads, KV heads, head dimension before tensor parallelism
MODELS = {
    "meta-llama_Llama-3.1-8B": (32, 8, 128),
    "Qwen_Qwen3-32B": (64, 8, 128),
    "Qwen_Qwen3-30B-A3B-Instruct-2507": (32, 4, 128),
    "microsoft_Phi-mini-MoE-instruct": (32, 8, 128),
}
PROFILES = {"rtx-4090": "RTX4090", "rtx-pro-6000": "RTXPRO6000"}
LAYERS = {"a6000": "A6000"}
VIDUR = {"a100-80gb-sxm": "a100"}
WIDE, WIDEST = 128, 256  # head dimensions above which FlashAttention runs smaller tiles, and another kernel
MIXED_SHARE = 0.5  # of a time that decoding must take, to be told from what it was measured with
LATENT = {"qk_dim": 576, "v_dim": 512, "kv_width": 576}  # DeepSeek-V3's latent cache with its rotary part

Readers = list[Callable[[Path, str], list[pd.DataFrame]]]


def prefill_tables(data: Path, device: str) -> pd.DataFrame:
    """All published prompt attention timings of a device (a catalog name): PREFILL_KEYS, seconds; empty where none."""
    return _joined([_aiconfigurator_prefill, _profiles_prefill, _layers_prefill], data, device, PREFILL_KEYS)


def decode_tables(data: Path, device: str) -> pd.DataFrame:
    """All published decode attention timings of a device: DECODE_KEYS, seconds; empty where none.

    Left out: points no memory could serve (a benchmark whose cache pool was smaller than its contexts, as the A6000
    and H100 layer profiles of LLMServingSim).
    """
    readers: Readers = [_aiconfigurator_decode, _latent_decode, _profiles_decode, _profiles_mixed]
    return _possible(_joined(readers, data, device, DECODE_KEYS), device)


def other_engines_prefill(data: Path, device: str) -> pd.DataFrame:
    """Prompt attention of engines whose kernels are not vLLM's, to compare with; as `prefill_tables`."""
    return _joined([_trtllm_prefill, _vidur_prefill], data, device, PREFILL_KEYS)


def other_engines_decode(data: Path, device: str) -> pd.DataFrame:
    """Decode attention of engines whose kernels are not vLLM's, to compare with; as `decode_tables`."""
    return _possible(_joined([_trtllm_decode, _vidur_decode], data, device, DECODE_KEYS), device)


def own_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Our own `attention_prefill` or `attention_decode` table with the columns of the published ones."""
    table = measured.rename(columns={"head_dim": "qk_dim"})
    table = table.assign(v_dim=table["qk_dim"], kv_width=2 * table["kv_heads"] * table["qk_dim"])
    if "skew" in table:
        table = table[table["skew"] == 0]
    return table.assign(kernel=_variant(table["window"], table["qk_dim"]), cache_resident=False, origin="own")


def _variant(window: pd.Series, qk_dim: pd.Series) -> NDArray[np.str_]:
    """What tells a kernel from the usual one, by its window and head dimension."""
    wide = qk_dim > WIDE
    return np.where(window > 0, np.where(wide, "window-wide", "window"), np.where(wide, "wide", ""))


def _joined(readers: Readers, data: Path, device: str, keys: list[str]) -> pd.DataFrame:
    parts = [part for reader in readers for part in reader(data, device)]
    if not parts:
        return pd.DataFrame(columns=[*keys, "seconds"])
    table = pd.concat(parts, ignore_index=True)
    table = table[np.isfinite(table["seconds"]) & (table["seconds"] > 0)]
    merged: pd.DataFrame = table.groupby(keys, as_index=False, sort=True)["seconds"].median()
    return merged


def _possible(table: pd.DataFrame, device: str) -> pd.DataFrame:
    """Without points whose keys and values outgrow the cache and yet came faster than memory delivers."""
    if table.empty:
        return table
    spec = catalog.gpu(device)
    seen = np.where(table["window"] > 0, np.minimum(table["context_tokens"], table["window"]), table["context_tokens"])
    width = table["kv_dtype"].map(bytes_per_element)
    moved = table["batch"] * seen * table["kv_width"] * width
    too_fast = moved / table["seconds"] > spec.memory_bandwidth_bytes_per_s
    return table[~(too_fast & (moved > 2.0 * spec.l2_bytes))].reset_index(drop=True)


def _aiconfigurator(data: Path, device: str, phase: str, library: str = "vllm") -> pd.DataFrame | None:
    path = data / "aiconfigurator" / f"{library}_attention_{AICONFIGURATOR.get(device)}.parquet"
    if not path.is_file():
        return None
    raw = pd.read_parquet(path)
    raw = raw[raw["op_name"] == phase]
    if library == "vllm":
        raw = raw[raw["kernel_source"].isin(AICONFIGURATOR_KERNELS)]
    part = pd.DataFrame({"batch": raw["batch_size"].astype(float), "new_tokens": raw["isl"].astype(float)})
    part["step"] = raw["step"].astype(float)  # tokens in the cache before these
    part["heads"], part["kv_heads"] = raw["num_heads"].astype(float), raw["num_key_value_heads"].astype(float)
    part["qk_dim"] = part["v_dim"] = raw["head_dim"].astype(float)
    part["kv_width"] = 2.0 * part["kv_heads"] * part["qk_dim"]
    part["dtype"] = raw["attn_dtype"].astype(str).map(DTYPES)
    part["kv_dtype"] = raw["kv_cache_dtype"].astype(str).map(DTYPES)
    part["window"] = raw["window_size"].astype(float) if "window_size" in raw else 0.0
    part["kernel"] = _variant(part["window"], part["qk_dim"])
    part = part[part["qk_dim"] <= WIDEST]
    part["cache_resident"] = True
    part["origin"] = "aiconfigurator" if library == "vllm" else f"aiconfigurator/{library}"
    part["seconds"] = raw["latency"] * 1e-3
    return part


def _aiconfigurator_prefill(data: Path, device: str) -> list[pd.DataFrame]:
    part = _aiconfigurator(data, device, "context_attention")
    if part is None:
        return []
    return [part[part["new_tokens"] > 1].rename(columns={"step": "past_tokens"})]


def _aiconfigurator_decode(data: Path, device: str) -> list[pd.DataFrame]:
    part = _aiconfigurator(data, device, "generation_attention")
    return [] if part is None else [part.assign(context_tokens=part["step"] + 1)]


def _trtllm_prefill(data: Path, device: str) -> list[pd.DataFrame]:
    part = _aiconfigurator(data, device, "context_attention", "trtllm")
    return [] if part is None else [part[part["new_tokens"] > 1].rename(columns={"step": "past_tokens"})]


def _trtllm_decode(data: Path, device: str) -> list[pd.DataFrame]:
    part = _aiconfigurator(data, device, "generation_attention", "trtllm")
    return [] if part is None else [part.assign(context_tokens=part["step"] + 1)]


def _vidur(data: Path, device: str) -> pd.DataFrame | None:
    """Vidur's profile of FlashAttention on paged KV, each kernel's own time (ms) without launches around it."""
    path = data / "vidur" / f"{VIDUR.get(device)}_attention_old_e2d00e9a.parquet"
    if not path.is_file():
        return None
    raw = pd.read_parquet(path)
    ranks = raw["num_tensor_parallel_workers"]
    heads, kv_heads, dim = raw["n_q_head"] / ranks, raw["n_kv_head"] / ranks, raw["n_embd"] / raw["n_q_head"]
    part = raw.assign(batch=raw["batch_size"].astype(float), heads=heads, kv_heads=kv_heads, qk_dim=dim, v_dim=dim)
    return part.assign(
        kv_width=2.0 * kv_heads * dim, dtype="bf16", kv_dtype="bf16", window=0.0, kernel="", cache_resident=True,
        origin="vidur",
    )  # fmt: skip


def _vidur_prefill(data: Path, device: str) -> list[pd.DataFrame]:
    raw = _vidur(data, device)
    if raw is None:
        return []
    raw = raw[raw["is_prefill"]]
    new, past = raw["prefill_chunk_size"].astype(float), raw["kv_cache_size"].astype(float)
    return [raw.assign(new_tokens=new, past_tokens=past, seconds=raw["time_stats.attn_prefill.median"] * 1e-3)]


def _vidur_decode(data: Path, device: str) -> list[pd.DataFrame]:
    raw = _vidur(data, device)
    if raw is None:
        return []
    raw = raw[~raw["is_prefill"]]
    context = raw["kv_cache_size"].astype(float) + 1.0
    return [raw.assign(context_tokens=context, seconds=raw["time_stats.attn_decode.median"] * 1e-3)]


def _latent_decode(data: Path, device: str) -> list[pd.DataFrame]:
    """Multi-head latent attention: what a layer's attention module takes more at a context than at the shortest one,
    its projections taken off thereby.
    """
    path = data / "aiconfigurator" / f"vllm_mla_{AICONFIGURATOR.get(device)}.parquet"
    if not path.is_file():
        return []
    raw = pd.read_parquet(path)
    raw = raw[raw["op_name"] == "mla_generation_module"]
    if raw.empty:
        return []
    part = pd.DataFrame({"batch": raw["batch_size"].astype(float), "context_tokens": raw["step"].astype(float)})
    part = part.assign(heads=raw["num_heads"].astype(float), kv_heads=1.0, **{k: float(v) for k, v in LATENT.items()})
    part = part.assign(dtype="bf16", kv_dtype=raw["kv_cache_dtype"].astype(str).map(DTYPES), window=0.0)
    part["projections"], part["module_s"] = raw["gemm_type"].astype(str), raw["latency"] * 1e-3
    part = part[part["projections"] == "bfloat16"]
    module = ["batch", "heads", "kv_dtype"]
    shortest = part.sort_values("context_tokens").groupby(module)["module_s"].transform("first")
    part = part.assign(kernel="mla", cache_resident=True, origin="aiconfigurator", seconds=part["module_s"] - shortest)
    return [part[part["seconds"] > MIXED_SHARE * part["module_s"]]]


def _profile(data: Path, device: str) -> list[pd.DataFrame]:
    """Steps of LLMServingSim's vLLM profiles: one chunk after kv_prefill tokens beside n_decode contexts."""
    parts = []
    for path in sorted((data / "llmservingsim").glob(f"{PROFILES.get(device)}_*_attention.csv.gz")):
        model, _, parallel = path.name.removesuffix("_attention.csv.gz").partition("_bf16_tp")
        heads, kv_heads, dim = MODELS[model.partition("_")[2]]
        raw, ranks = pd.read_csv(path), int(parallel)
        parts.append(raw.assign(**_shape(heads // ranks, kv_heads // ranks, dim), origin="llmservingsim"))
    return parts


def _shape(heads: int, kv_heads: int, dim: int) -> dict[str, Any]:
    shape = {"heads": heads, "kv_heads": kv_heads, "qk_dim": dim, "v_dim": dim, "kv_width": 2 * kv_heads * dim}
    return {name: float(value) for name, value in shape.items()} | {
        "dtype": "bf16",
        "kv_dtype": "bf16",
        "window": 0.0,
        "kernel": "",
        "cache_resident": False,
    }


def _profiles_prefill(data: Path, device: str) -> list[pd.DataFrame]:
    names = {"prefill_chunk": "new_tokens", "kv_prefill": "past_tokens"}
    return [
        raw[raw["n_decode"] == 0].rename(columns=names).assign(batch=1.0, seconds=lambda t: t["time_us"] * 1e-6)
        for raw in _profile(data, device)
    ]


def _profiles_decode(data: Path, device: str) -> list[pd.DataFrame]:
    names = {"n_decode": "batch", "kv_decode": "context_tokens"}
    return [
        raw[raw["prefill_chunk"] == 0].rename(columns=names).assign(seconds=lambda t: t["time_us"] * 1e-6)
        for raw in _profile(data, device)
    ]


def _profiles_mixed(data: Path, device: str) -> list[pd.DataFrame]:
    """What decoding adds to a chunk's attention in one kernel: a mixed step less the chunk alone."""
    parts = []
    for raw in _profile(data, device):
        chunk = ["prefill_chunk", "kv_prefill"]
        alone = raw[raw["n_decode"] == 0].groupby(chunk)["time_us"].median().rename("alone_us").reset_index()
        mixed = raw[(raw["n_decode"] > 0) & (raw["prefill_chunk"] > 0)].merge(alone, on=chunk)
        mixed = mixed.assign(seconds=(mixed["time_us"] - mixed["alone_us"]) * 1e-6, kernel="mixed")
        mixed = mixed[mixed["seconds"] * 1e6 > MIXED_SHARE * mixed["time_us"]]
        parts.append(mixed.rename(columns={"n_decode": "batch", "kv_decode": "context_tokens"}))
    return parts


def _layers_prefill(data: Path, device: str) -> list[pd.DataFrame]:
    """LLMServingSim's layer profiles: chunks of one sequence, in milliseconds."""
    parts = []
    for path in sorted((data / "llmservingsim").glob(f"{LAYERS.get(device)}_*_attention.parquet")):
        model, _, parallel = path.name.removesuffix("_attention.parquet").rpartition("_tp")
        heads, kv_heads, dim = MODELS[model.partition("_")[2]]
        raw, ranks = pd.read_parquet(path), int(parallel)
        raw = raw[raw["is_prefill"]]
        part = pd.DataFrame({"batch": 1.0, "new_tokens": raw["prefill_chunk_size"].astype(float)})
        part["past_tokens"] = raw["kv_cache_size"].astype(float) - raw["prefill_chunk_size"].astype(float)
        part["seconds"] = raw["time_stats.attn_prefill.median"] * 1e-3
        parts.append(part.assign(**_shape(heads // ranks, kv_heads // ranks, dim), origin="llmservingsim/layers"))
    return parts
