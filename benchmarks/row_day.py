"""A day of a row behind its breaker: 40 eight-GPU servers, 4 million requests by day and night, telemetry every 2 s,
POLCA's caps on.

Run from the project's root after `make test`: python benchmarks/row_day.py [--hours 24] [--start 0] [--no-power]

Each server serves Llama-3-70B over its eight A100s; half of them are of low priority. Lengths are about those of the
catalog's azure-conv-2023. The breaker was built for 31 servers, 29 % fewer than stand behind it. CPU seconds are those
of this process, user and system.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import Any

import numpy as np

from sim.run import run
from sim.scenario import Scenario

SERVERS, PROVISIONED = 40, 31
REQUESTS_A_DAY = 4_000_000
DAY_S = 86_400.0
SWING = 0.4  # of the rate at noon over the mean, and at midnight below it
PROMPT = {"name": "lognormal", "p50": 1020, "p99": 4100, "max_tokens": 6000}
OUTPUT = {"name": "lognormal", "p50": 129, "p99": 700, "max_tokens": 1000}


def client(name: str, priority: int, start_h: float) -> dict[str, Any]:
    """Half of the row's traffic: a wave of one day, from an hour of the day on."""
    t_s = np.arange(0.0, DAY_S + 1.0, 1800.0)
    wave = 1.0 - SWING * np.cos(2.0 * np.pi * (t_s / DAY_S + start_h / 24.0))
    rate = REQUESTS_A_DAY / DAY_S / 2 * wave
    arrivals = {"name": "profile", "t_s": t_s.tolist(), "request_rate": rate.tolist(), "period_s": DAY_S}
    return {
        "name": name, "priority": priority, "arrivals": arrivals, "prompt_tokens": PROMPT, "output_tokens": OUTPUT,
    }  # fmt: skip


def scenario(hours: float, start_h: float, power: bool) -> Scenario:
    """The row, for so many hours from an hour of the day on."""
    section = {"provisioned_nodes": PROVISIONED, "policy": {"name": "polca"}, "telemetry_period_s": 2.0}
    return Scenario.model_validate(
        {
            "name": "row-day",
            "seed": 7,
            "model": {"config": "llama-3-70b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": SERVERS},
            "serving": {
                "replicas": SERVERS,
                "low_priority_replicas": SERVERS // 2,
                "tensor_parallel_size": 8,
                "max_num_seqs": 128,
                "scheduler": {"name": "prefill_first"},
            },
            "workload": {
                "duration_s": hours * 3600.0,
                "generator": {
                    "name": "clients",
                    "clients": [client("chat", 0, start_h), client("batch", 1, start_h)],
                },
            },
            "power": section if power else None,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="simulated")
    parser.add_argument("--start", type=float, default=0.0, help="hour of the day at which they begin; noon is busiest")
    parser.add_argument("--no-power", action="store_true", help="without [power], to compare")
    args = parser.parse_args()
    day = scenario(args.hours, args.start, not args.no_power)
    start = time.process_time()
    result = run(day)
    seconds = time.process_time() - start
    summary = result.summary
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1e3) / 1e9
    print(f"{summary['requests']:,} requests, {summary['steps']:,} steps in {summary['runs']:,} runs")
    print(f"{seconds:,.1f} CPU s, {seconds / summary['requests'] * 1e6:.1f} us a request; {peak_gb:.2f} GB at most")
    print(f"p99 of TTFT {summary['ttft_s']['p99']:.2f} s, of TPOT {summary['tpot_s']['p99'] * 1e3:.1f} ms")
    row = summary["power"]
    if row is not None:
        watts = row["row_w"]
        print(
            f"row: limit {row['row_limit_w'] / 1e3:,.0f} kW, mean {watts['mean'] / 1e3:,.0f} kW, largest reading"
            f" {watts['max'] / 1e3:,.0f} kW ({row['row_peak_fraction']:.1%}); {row['orders']} orders, {row['brakes']}"
            f" brakes, low priority locked {row['low_priority_locked_s'] / 3600:.2f} h"
        )


if __name__ == "__main__":
    main()
