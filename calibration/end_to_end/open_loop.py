"""Recorded runs of a server under its own arrivals, request by request, played again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import parse_scenario
from workloads.request import RequestTable


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run: what was asked, what was measured, and on what."""

    name: str
    scenario: Scenario
    requests: pd.DataFrame  # arrival_s, prompt_tokens, output_tokens, ttft_s, tpot_s, e2e_s


def open_loop_runs(data: Path) -> list[RecordedRun]:
    """The recorded runs under a folder of published tables."""
    path = data / "end_to_end" / "llmservingsim_requests.csv.gz"
    if not path.is_file():
        return []
    raw = pd.read_csv(path).sort_values("queued_ts", kind="stable")
    requests = pd.DataFrame(
        {
            # the source's arrival_time is of another clock than its other stamps
            "arrival_s": raw["queued_ts"] - raw["queued_ts"].min(),
            "prompt_tokens": raw["input_toks"],
            "output_tokens": raw["output_toks"],
            "ttft_s": raw["first_token_ts"] - raw["queued_ts"],
            "tpot_s": (raw["last_token_ts"] - raw["first_token_ts"]) / (raw["output_toks"] - 1),
            "e2e_s": raw["last_token_ts"] - raw["queued_ts"],
        }
    )
    # LLMServingSim's recording: vLLM 0.19 in one process without a server, which reported 2,588 blocks of KV
    tables: dict[str, Any] = {
        "name": "rtx-4090",
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "rtx-4090-workstation"},
        "serving": {
            "engine": "vllm-0.12",
            "max_num_seqs": 256,
            "max_num_batched_tokens": 2048,
            "num_gpu_blocks_override": 2588,
        },
        "workload": {"generator": {"name": "synthetic"}, "num_requests": 1},  # not played
    }
    name = "vLLM 0.19, llama-3.1-8b, RTX 4090, 300 requests at 10/s"
    return [RecordedRun(name, parse_scenario(tables, name, Path()), requests)]


def replay(recorded: RecordedRun) -> dict[str, tuple[float, float, float, float]]:
    """Metric -> measured, predicted, and the prediction's 90 % interval: means, and output tokens a second."""
    asked = recorded.requests
    table = RequestTable.build(
        source=recorded.name,
        arrival_s=asked["arrival_s"].to_numpy(),
        prompt_tokens=asked["prompt_tokens"].to_numpy(),
        output_tokens=asked["output_tokens"].to_numpy(),
    )
    result = run(recorded.scenario, requests=table)
    bars = result.summary["interval_90"]
    found = {}
    for metric, column in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s")):
        low, high = bars[column]["mean"]
        found[metric] = (float(asked[column].mean()), float(result.summary[column]["mean"]), low, high)
    elapsed = float(np.max(asked["arrival_s"] + asked["e2e_s"]))
    measured = float(asked["output_tokens"].sum()) / elapsed
    found["output throughput"] = (measured, result.summary["output_throughput"], *bars["output_throughput"])
    return found
