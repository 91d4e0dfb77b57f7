"""A result in the shape of `vllm bench serve`'s JSON, for scripts that parse it: times in milliseconds, lists in
seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.result import Result


def vllm_bench_json(result: Result, detailed: bool = False) -> dict[str, Any]:
    """Aggregates; with `detailed` also one entry a request (without per-token gaps, which the simulator does not
    keep).
    """
    summary, columns = result.summary, result.request_columns
    done = np.isfinite(columns["e2e_s"])
    out: dict[str, Any] = {
        "duration": summary["duration_s"],
        "completed": summary["completed"],
        "failed": summary["rejected"],
        "total_input_tokens": summary["prompt_tokens"],
        "total_output_tokens": summary["output_tokens"],
        "request_throughput": summary["request_throughput"],
        "request_goodput": summary["request_goodput_per_s"] if len(summary["slo"]) > 2 else None,
        "output_throughput": summary["output_throughput"],
        "total_token_throughput": summary["total_token_throughput"],
    }
    for theirs, ours in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("itl", "tbt_s"), ("e2el", "e2e_s")):
        for theirs_stat, ours_stat in (("mean", "mean"), ("median", "p50"), ("std", "std"), ("p99", "p99")):
            value = summary[ours][ours_stat]
            out[f"{theirs_stat}_{theirs}_ms"] = None if value is None else value * 1e3
    if detailed:
        out |= {
            "input_lens": columns["prompt_tokens"][done].tolist(),
            "output_lens": columns["output_tokens"][done].tolist(),
            "ttfts": columns["ttft_s"][done].tolist(),
            "latencies": columns["e2e_s"][done].tolist(),
            "start_times": columns["arrival_s"][done].tolist(),
        }
    return out
