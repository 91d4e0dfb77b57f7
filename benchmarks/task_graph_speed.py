"""How fast task graphs are ordered, evaluated by max-plus and run on the clock: tasks a CPU-second.

Run from the project's root after `make test`: python benchmarks/task_graph_speed.py [--stages 16] [--micro-batches 128]
The graph is one step of a pipeline with the schedule 1F1B: forwards and backwards on each device's compute stream,
sends of activations and gradients on streams of their own. Figures are CPU seconds of this process, the fastest of
several runs each; compare ratios.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from itertools import chain
from math import inf

from policies.task_graph import TaskGraph
from sim.graph import compile_graph, execute, lower_bound_s, max_plus, peak

FORWARD_S, BACKWARD_S, SEND_S = 1.0e-3, 2.0e-3, 1.0e-4
ACTIVATION_BYTES = 2.0**28


def one_f_one_b(stages: int, micro_batches: int, memory: bool, by_priority: bool = False) -> TaskGraph:
    """A device's program: warm-up forwards, then forward and backward in turn, then the backwards that are left."""
    graph = TaskGraph()
    compute = [graph.add_stream(stage, "compute", by_priority=by_priority) for stage in range(stages)]
    down = [graph.add_stream(stage, "send_forward") for stage in range(stages)]
    up = [graph.add_stream(stage, "send_backward") for stage in range(stages)]
    pools = [graph.add_pool(stage, "hbm", 80e9) for stage in range(stages)] if memory else []
    forward: dict[tuple[int, int], int] = {}
    backward: dict[tuple[int, int], int] = {}
    sent: dict[tuple[int, int], int] = {}
    returned: dict[tuple[int, int], int] = {}
    for stage in range(stages):
        ahead = min(stages - stage, micro_batches)
        steady = chain.from_iterable((("B", m), ("F", m + ahead)) for m in range(micro_batches))
        program = [("F", m) for m in range(ahead)] + [one for one in steady if one[1] < micro_batches]
        for what, m in program:
            if what == "F":
                task = forward[stage, m] = graph.add(compute[stage], FORWARD_S, "forward", name=f"forward {m}")
                if stage < stages - 1:
                    sent[stage, m] = graph.add(down[stage], SEND_S, "send", [task])
            else:
                task = graph.add(compute[stage], BACKWARD_S, "backward", [forward[stage, m]], priority=1)
                backward[stage, m] = task
                if stage:
                    returned[stage, m] = graph.add(up[stage], SEND_S, "send", [task])
            if memory and what == "F":
                graph.acquire(task, pools[stage], ACTIVATION_BYTES, "activations")
            elif memory:
                graph.release(task, pools[stage], ACTIVATION_BYTES, "activations")
    for (stage, m), send in sent.items():
        graph.wait_for(forward[stage + 1, m], send)
    for (stage, m), send in returned.items():
        graph.wait_for(backward[stage - 1, m], send)
    return graph


def fastest_s(work: Callable[[], object], repeat: int) -> float:
    best = inf
    for _ in range(repeat):
        gc.collect()
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=16)
    parser.add_argument("--micro-batches", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=15, help="runs of each, of which the fastest counts")
    args = parser.parse_args()
    plain = one_f_one_b(args.stages, args.micro_batches, memory=False)
    held = one_f_one_b(args.stages, args.micro_batches, memory=True)
    chosen = one_f_one_b(args.stages, args.micro_batches, memory=False, by_priority=True)
    compiled, times = compile_graph(plain), max_plus(held)
    works: dict[str, Callable[[], object]] = {
        "build the graph": lambda: one_f_one_b(args.stages, args.micro_batches, memory=False),
        "compile": lambda: compile_graph(plain),
        "evaluate again: compiled.ends": lambda: compiled.ends(plain.duration_s),
        "evaluate again: compiled.times": lambda: compiled.times(plain.duration_s),
        "max_plus": lambda: max_plus(plain),
        "max_plus, with budgets": lambda: max_plus(held),
        "lower_bound_s, compiled": lambda: lower_bound_s(plain, compiled),
        "execute": lambda: execute(plain),
        "execute, with budgets": lambda: execute(held),
        "execute, compute by priority": lambda: execute(chosen),
        "peak of one pool": lambda: peak(held, times, 0),
    }
    assert execute(held) == times
    print(f"1F1B, {args.stages} stages x {args.micro_batches} micro-batches: {len(plain):,} tasks")
    print(f"{'work':<34}{'ms':>10}{'us/task':>10}{'tasks/s':>14}")
    for name, work in works.items():
        seconds = fastest_s(work, args.repeat)
        print(f"{name:<34}{seconds * 1e3:>10.2f}{seconds / len(plain) * 1e6:>10.3f}{len(plain) / seconds:>14,.0f}")


if __name__ == "__main__":
    main()
