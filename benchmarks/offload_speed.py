"""How fast an offloaded step is written, run and summarised, and how much faster than on SimPy's clock.

Run from the project's root: python benchmarks/offload_speed.py [--micro-batches 21]
The step fine-tunes 175B parameters under Fuyou's policy on one GPU with twelve drives: some 100,000 tasks that wait for
buffers and share links. Figures are CPU seconds of this process, the fastest of several runs each; compare ratios.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from math import inf

from sim.graph.event_loop import execute_quickly
from sim.graph.executor import execute
from sim.graph.uncollected import uncollected
from sim.offload.deployment import deploy_offload
from sim.offload.memory import tier_peaks
from sim.scenario_file import load_any
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

SCENARIO = "scenarios/gpt-13b-4090-fuyou.toml"
MICRO_BATCH = 4


def fastest_s(work: Callable[[], object], repeat: int) -> float:
    best = inf
    for _ in range(repeat):
        gc.collect()
        start = time.process_time()
        with uncollected():
            work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micro-batches", type=int, default=21)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    args = parser.parse_args()
    batch = f"training.global_batch_size={args.micro_batches * MICRO_BATCH}"
    sizes = (f"training.micro_batch_size={MICRO_BATCH}", batch, "training.check_memory=false")
    scenario = load_any(SCENARIO, ("model.config=gpt3-175b", *sizes))
    assert isinstance(scenario, TrainingScenario)
    plan = deploy_offload(scenario)
    graph = plan.policy.write(plan.work, plan.machine)
    times = execute_quickly(graph)
    assert times == execute(graph)
    works: dict[str, Callable[[], object]] = {
        "write the graph": lambda: plan.policy.write(plan.work, plan.machine),
        "run it: execute_quickly": lambda: execute_quickly(graph),
        "run it on SimPy's clock: execute": lambda: execute(graph),
        "peaks of tiers": lambda: tier_peaks(graph, times),
        "all of it: run_training": lambda: run_training(scenario),
    }
    print(f"{scenario.model.config}, {args.micro_batches} micro-batches: {len(graph):,} tasks")
    print(f"{'work':<36}{'s':>8}{'us/task':>10}{'tasks/s':>12}")
    for name, work in works.items():
        seconds = fastest_s(work, args.repeat)
        print(f"{name:<36}{seconds:>8.2f}{seconds / len(graph) * 1e6:>10.2f}{len(graph) / seconds:>12,.0f}")


if __name__ == "__main__":
    main()
