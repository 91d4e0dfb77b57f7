"""How fast the serving engine is: requests, steps and events a CPU-second, growth with size, memory, and the gain of
runs.

Run from the project's root after `make test`: python benchmarks/serving_speed.py [--million] The workload is the
catalog's bench-poisson: Llama-3-8B on one A100-80GB, 5.24 requests/s, at most 128 sequences, chunked prefill with a
budget of 512 or prefill-first with 4,096 tokens. Figures are CPU seconds of this process; compare ratios.
"""

from __future__ import annotations

import argparse
import resource
import time

from sim.run import run
from sim.scenario import Scenario
from sim.workload import load_requests
from workloads.request import RequestTable

SCHEDULERS = {"chunked_prefill": 512, "prefill_first": 4096}


def scenario(scheduler: str) -> Scenario:
    return Scenario.model_validate(
        {
            "name": f"bench-{scheduler}",
            "seed": 7,
            "model": {"config": "llama-3-8b"},
            "cluster": {"node": "dgx-a100-80gb"},
            "serving": {
                "max_num_seqs": 128,
                "max_num_batched_tokens": SCHEDULERS[scheduler],
                "scheduler": {"name": scheduler},
            },
            "workload": {"trace": "bench-poisson"},
            "slo": {"ttft_s": 2.0, "tbt_s": 0.1},
        }
    )


def measure(scheduler: str, requests: RequestTable, exact: bool = False) -> tuple[float, int, int]:
    """CPU seconds, steps, events (runs of steps)."""
    start = time.process_time()
    result = run(scenario(scheduler), exact=exact, requests=requests)
    _ = result.requests, result.steps  # the frames belong to the work
    return time.process_time() - start, result.summary["steps"], result.summary["runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="also a million requests, at load and in overload")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    args = parser.parse_args()
    sizes = [10_000, 20_000, 100_000] + ([1_000_000] if args.million else [])
    workload = scenario("chunked_prefill").workload.model_copy(update={"num_requests": sizes[-1]})
    everything = load_requests(workload, 7)
    measure("chunked_prefill", everything.head(1000))  # imports and tables
    print(f"{'work':<44}{'requests/s':>12}{'steps/s':>12}{'events/s':>12}{'us/request':>12}")
    for scheduler in SCHEDULERS:
        for load, rate in (("", 1.0), (" in overload", 2.5)):
            per_request = {}
            for size in sizes:
                table = everything.head(size).scale_rate(rate)
                repeat = args.repeat if size < 500_000 else 1
                seconds, steps, events = min(measure(scheduler, table) for _ in range(repeat))
                per_request[size] = seconds / size
                print(
                    f"{scheduler + load:<34}{size:>10,}{size / seconds:>12,.0f}{steps / seconds:>12,.0f}"
                    f"{events / seconds:>12,.0f}{seconds / size * 1e6:>12.1f}"
                )
            growth = per_request[sizes[-1]] / per_request[sizes[0]]
            print(f"  cost a request at {sizes[-1]:,} over that at {sizes[0]:,}: {growth:.2f}")
        table = everything.head(5_000)
        fast = min(measure(scheduler, table)[0] for _ in range(args.repeat))
        slow = min(measure(scheduler, table, exact=True)[0] for _ in range(args.repeat))
        print(f"  --exact over run-compressed, 5,000 requests: {slow / fast:.2f}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory of this process: {peak_mb:,.0f} MB")


if __name__ == "__main__":
    main()
