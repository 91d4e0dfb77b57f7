"""What a sweep costs beyond its simulations, how two workers compare with one, and the memory of its parent.

Run from the project's root after `make test`: python benchmarks/sweep_speed.py [--points 1000] [--large 10000] The
scenario is Llama-3.1-8B on a DGX H100 for 20 s of Azure's chat traffic, some 7 ms a point. Overhead is the sweep's
wall time with one worker, less that of the same points in a plain loop in one process, a point. Compare ratios; they
mean something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sim.sweep import expand, make_sweep, run_sweep
from sim.sweep.columns import VALUE_COLUMNS
from sim.sweep.definition import Sweep
from sim.sweep.point import OK, Job, Outcome, run_point
from sim.sweep.request_cache import CACHE

SETTINGS = 10
HALF = """
import sys
from benchmarks.sweep_speed import plain_loop_s, sweep
print(plain_loop_s(sweep(int(sys.argv[1]))))
"""
PARENT = """
import json, resource, sys, time
from benchmarks.sweep_speed import nothing, sweep
from sim.sweep import run_sweep
start = time.perf_counter()
rows = run_sweep(sweep(int(sys.argv[1])), sys.argv[2], workers=2, work=nothing)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([len(rows), time.perf_counter() - start, rss]))
"""


def sweep(points: int) -> Sweep:
    tables: dict[str, Any] = {
        "schema": 1,
        "seeds": list(range(points // SETTINGS)),
        "axes": {"serving.max_num_seqs": [8, 16, 32, 64, 128], "workload.rate_scale": [0.5, 1.0]},
        "scenario": {
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "dgx-h100"},
            "workload": {"trace": "azure-conv-2023", "duration_s": 20},
        },
    }
    return make_sweep(tables, Path("benchmark.toml"))


def nothing(job: Job) -> Outcome:
    """A point that takes no time: what is left is the sweep's own."""
    return Outcome(OK, "", "measured", "Memory", (float(job.index),) * len(VALUE_COLUMNS))


def plain_loop_s(asked: Sweep) -> float:
    """The same points one after another, without a sweep; the first of them warms the tables up."""
    points = expand(asked)
    jobs = [points.job(point.index) for point in points.points]
    run_point(jobs[0])
    CACHE.forget()
    start = time.perf_counter()
    for job in jobs:
        run_point(job)
    return time.perf_counter() - start


def halves_s(points: int) -> float:
    """Two processes that know nothing of each other, half of the points each: what the machine has to give."""
    command = [sys.executable, "-c", HALF, str(points // 2)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return max(float(one.communicate()[0]) for one in both)


def sweep_s(asked: Sweep, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_sweep(asked, Path(folder) / "out", workers=workers)
        return time.perf_counter() - start


def report(points: int, best: dict[str, float]) -> None:
    one, two = (best[name] - best[f"few by {name}"] for name in ("one", "two"))
    print(f"{points:,} points: plain loop {best['loop']:.2f} s", end=", ")
    print(f"1 worker {best['one']:.2f} s, 2 workers {best['two']:.2f} s")
    print(f"overhead, 1 worker: {(best['one'] - best['loop']) / points * 1e3:.2f} ms a point, start included")
    print(f"2 workers over 1: {best['one'] / best['two']:.2f} x, start included; {one / two:.2f} x beyond the start")
    print(f"2 bare processes over 1: {best['loop'] / best['halves']:.2f} x, which is what the machine gives")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="of the timed sweeps")
    parser.add_argument("--large", type=int, default=10_000, help="of the sweep whose parent is weighed")
    parser.add_argument("--repeat", type=int, default=3, help="times each, of which the fastest counts")
    args = parser.parse_args()
    asked, few = sweep(args.points), sweep(args.points // 10)
    times: dict[str, list[float]] = {name: [] for name in ("loop", "halves", "one", "two", "few by one", "few by two")}
    for _ in range(args.repeat):  # interleaved, so that a slow spell of the machine falls on all alike
        times["loop"].append(plain_loop_s(asked))
        times["halves"].append(halves_s(args.points))
        times["one"].append(sweep_s(asked, 1))
        times["two"].append(sweep_s(asked, 2))
        times["few by one"].append(sweep_s(few, 1))
        times["few by two"].append(sweep_s(few, 2))
    report(args.points, {name: min(values) for name, values in times.items()})
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PARENT, str(args.large), str(Path(folder) / "out")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        parts = len(list((Path(folder) / "out" / "parts").iterdir()))
    points, seconds, rss = json.loads(printed)
    print(f"{points:,} empty points: {seconds / points * 1e3:.2f} ms each with 2 workers, {parts} part files,")
    print(f"parent's peak {rss / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
