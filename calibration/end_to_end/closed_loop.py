"""A server under a fixed number of concurrent requests of equal lengths, each replaced the moment it ends: what
benchmarks sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import parse_scenario
from workloads.request import RequestTable

WAVES = 4  # of requests: the first and the last are not looked at


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """One operating point."""

    model: str
    node: str
    tensor_parallel_size: int
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    engine: str
    weight_dtype: str = "bf16"
    scheduler: str = "chunked_prefill"
    max_num_batched_tokens: int = 8192

    def scenario(self) -> Scenario:
        """As a scenario whose engine holds so many sequences."""
        tables: dict[str, Any] = {
            "name": "closed-loop",
            "model": {"config": self.model, "weight_dtype": self.weight_dtype},
            "cluster": {"node": self.node},
            "serving": {
                "engine": self.engine,
                "tensor_parallel_size": self.tensor_parallel_size,
                "max_num_seqs": self.concurrency,
                "max_num_batched_tokens": max(self.max_num_batched_tokens, self.concurrency),
                "scheduler": {"name": self.scheduler},
            },
            "workload": {
                "generator": {"name": "synthetic"},
                "num_requests": 1,
            },  # in place of which `requests` are played
        }
        return parse_scenario(tables, "closed loop", Path())


@dataclass(frozen=True, slots=True)
class Served:
    """Means over the middle waves, with 90 % intervals of the time per output token."""

    ttft_s: float
    tpot_s: float
    tpot_low_s: float
    tpot_high_s: float


def play(point: ClosedLoop) -> Served:
    """Simulate: all requests wait at the start, and the engine's slots admit one for each that ends.

    A request's time to first token counts from the end of the one whose slot it takes.
    """
    count, slots = WAVES * point.concurrency, point.concurrency
    requests = RequestTable.build(
        source="closed loop",
        arrival_s=np.zeros(count),
        prompt_tokens=np.full(count, point.prompt_tokens),
        output_tokens=np.full(count, point.output_tokens),
    )
    result = run(point.scenario(), requests=requests)
    frame = result.requests
    freed = np.sort(frame["e2e_s"].to_numpy())
    middle = slice(slots, count - slots)
    ttft = np.maximum(frame["ttft_s"].to_numpy()[slots:] - freed[:-slots], 0.0)[: count - 2 * slots]
    tpot = float(frame["tpot_s"].to_numpy()[middle].mean())
    mean = result.summary["tpot_s"]["mean"]
    low, high = result.summary["interval_90"]["tpot_s"]["mean"]
    return Served(float(ttft.mean()), tpot, tpot * low / mean, tpot * high / mean)
