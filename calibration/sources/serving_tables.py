"""Published end-to-end measurements of serving systems as operating points."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

NODES = {"h100_sxm": "dgx-h100"}
MODELS = {"Qwen/Qwen3-32B": "qwen3-32b", "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b"}
# Engine profiles by software and version; patch releases share one.
ENGINES = {("vllm", "0.12"): "vllm-0.12", ("sglang", "0.5"): "sglang-0.5", ("trtllm", "1.0"): "trtllm-1.0",
           ("trtllm", "1.2"): "trtllm-1.0"}  # fmt: skip
# SGLang admits prompts ahead of decoding; the others mix them.
SCHEDULERS = {"sglang": "prefill_first"}
# Where precision is not stated it is one of these; a prediction is then a band. Host times were fitted as if it were
# the first: in bf16 what is left over is the same at 2, 4 and 8 GPUs, in fp8 it would shrink with the weights' share.
PRECISIONS = ("bf16", "fp8")


def closed_loop_table(data: Path) -> pd.DataFrame:
    """AI Configurator's measured points of aggregated serving at fixed concurrency.

    Columns: engine, model, node, weight_dtype, stated (precision), tensor_parallel_size, concurrency, prompt_tokens,
    output_tokens, scheduler, ttft_s, tpot_s.
    """
    raw = pd.read_csv(data / "end_to_end" / "silicon_sample.csv.gz")
    raw = raw[(raw["mode"] == "agg") & raw["concurrency"].notna()]
    release = raw["backend_version"].astype(str).str.split(".").str[:2].str.join(".")
    engine = [ENGINES.get(key) for key in zip(raw["backend"], release, strict=True)]
    stated = raw["precision"].notna()
    table = pd.DataFrame(
        {
            "engine": engine,
            "model": raw["model_path"].map(MODELS),
            "node": raw["system"].map(NODES),
            "weight_dtype": raw["precision"].where(stated, PRECISIONS[0]),
            "stated": stated,
            "tensor_parallel_size": raw["tp_size"].astype(int),
            "concurrency": raw["concurrency"].astype(int),
            "prompt_tokens": raw["isl"].astype(int),
            "output_tokens": raw["osl"].astype(int),
            "scheduler": raw["backend"].map(SCHEDULERS).fillna("chunked_prefill"),
            "ttft_s": raw["silicon_ttft_ms"] * 1e-3,
            "tpot_s": raw["silicon_tpot_ms"] * 1e-3,
        }
    )
    return table.dropna(subset=["engine", "model", "node"]).reset_index(drop=True)
