"""How fast training plans are evaluated and searched.

Run from the project's root after `make test`: python benchmarks/training_plan_speed.py [--workers 2] [--search]
First one plan of GPT-3 175B on 1,024 A100s with 1F1B, 16 stages and 192 micro-batches, by what is known of it: passes
alone, with exchanges, the longest path through the whole graph (its structure built before), and, where the pipeline
repeats itself, with what repeats skipped. Then a step of 64 stages and 1,536 micro-batches. With --search the full
space, cold. Figures are CPU seconds of this process, the fastest of several runs; of the search also seconds of the
clock, which other processes on the machine lengthen.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf

from sim.plan.training.bounds import Bounds
from sim.plan.training.deployer import Deployer
from sim.plan.training.exchange_bound import ExchangeBound
from sim.plan.training.plan import Choice, TrainingPlan
from sim.plan.training.planner import plan_training
from sim.plan.training.space import TrainingSpace
from sim.plan.training.steady import SteadyStep, repeats, shortened
from sim.plan.training.structure import StepStructure
from sim.training.deployment import TrainingDeployment
from sim.training.step_graph import StepGraphBuilder
from sim.training_scenario import TrainingScenario

SCENARIO = {
    "model": {"config": "gpt3-175b", "vocab_size": 51200},
    "cluster": {"node": "dgx-a100-80gb", "nodes": 128},
    "training": {"seq_length": 2048, "global_batch_size": 1536, "check_memory": False},
}
PLAN = TrainingPlan(
    nodes=128, gpus=1024, tp=8, pp=16, dp=8, cp=1, ep=1, micro_batch=1, schedule=Choice("1f1b"),
    recompute=Choice("selective"), sharding=Choice("zero1"), sequence_parallel=True, split="even",
)  # fmt: skip


def fastest_s(work: Callable[[], object], repeat: int = 20) -> float:
    best = inf
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def built(deployment: TrainingDeployment) -> StepStructure:
    builder = StepGraphBuilder(deployment)
    builder.build()
    return StepStructure(builder)


def one_plan(deployer: Deployer, plan: TrainingPlan, name: str, *, whole: bool) -> None:
    bounds = Bounds(deployer)
    deployment = deployer.deploy(plan)
    layout = deployment.layout
    print(f"{name}: {layout.pp} stages, {layout.micro_batches} micro-batches")
    exchanges = ExchangeBound(deployment, bounds.shape(plan))
    other, turn = replace(plan, sequence_parallel=False), [plan]

    def passes() -> None:
        turn.append(other if turn[-1] is plan else plan)  # what the two share is kept
        bounds.of(turn[-1])

    print(f"  passes alone            {fastest_s(passes) * 1e3:9.3f} ms")
    print(f"  with exchanges          {fastest_s(exchanges.step_s) * 1e3:9.3f} ms")
    repetition = repeats(deployment)
    if repetition is not None:
        steady = SteadyStep(built(shortened(deployment, repetition)), repetition)
        skipped_s, ms = steady.step_s(deployment), fastest_s(lambda: steady.step_s(deployment)) * 1e3
        print(f"  what repeats skipped    {ms:9.3f} ms   {skipped_s:.9f} s")
    if whole:
        structure = built(deployment)
        table = structure.table_s(deployment)
        step_s = structure.step_s(deployment)
        walk_ms = fastest_s(lambda: structure.longest_s(table)) * 1e3
        print(f"  longest path, {len(structure.graph):>7,}   {walk_ms:9.3f} ms   {step_s:.9f} s")
        print(f"  the same with its table {fastest_s(lambda: structure.step_s(deployment)) * 1e3:9.3f} ms")


def lone_stage(deployer: Deployer) -> None:
    """Without a pipeline the bound with exchanges is the step itself, in closed form."""
    plan = replace(PLAN, tp=8, pp=1, dp=128, recompute=Choice("full"))
    deployment, bounds = deployer.deploy(plan), Bounds(deployer)
    exchanges = ExchangeBound(deployment, bounds.shape(plan))
    path_s = built(deployment).step_s(deployment)
    print(f"one stage, {deployment.layout.micro_batches} micro-batches: closed form over path"
          f" {exchanges.step_s() / path_s:.6f}, {fastest_s(exchanges.step_s) * 1e3:.3f} ms")  # fmt: skip


def search(workers: int) -> None:
    base = TrainingScenario.model_validate(SCENARIO)
    start, before = time.perf_counter(), time.process_time()
    found = plan_training(base, TrainingSpace(), workers=workers)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() - before + children.ru_utime + children.ru_stime
    levels = found.found.levels
    print(f"search, {workers} processes: {time.perf_counter() - start:.1f} s of the clock, {cpu_s:.1f} s of processors")
    print(f"  {found.plans:,} plans, {len(found.found.too_large):,} do not fit; {levels[1]:,} bounded with exchanges,"
          f" {levels[2]:,} longest paths, {levels[3]:,} simulated")  # fmt: skip
    print(f"  {found.winner.plan.name}: {found.winner.step_s:.4f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--search", action="store_true")
    asked = parser.parse_args()
    if asked.search:
        search(asked.workers)
        return
    deployer = Deployer(TrainingScenario.model_validate(SCENARIO))
    one_plan(deployer, PLAN, "1F1B", whole=True)
    one_plan(deployer, replace(PLAN, schedule=Choice("interleaved_1f1b", (("chunks", 6),))), "interleaved", whole=True)
    one_plan(deployer, replace(PLAN, pp=64, dp=1, sharding=Choice("none")), "1F1B", whole=False)
    lone_stage(deployer)


if __name__ == "__main__":
    main()
