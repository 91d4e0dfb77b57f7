"""Task graphs for tests: small ones to build by hand, and strategies for any."""

from typing import Any

from hypothesis import strategies as st

from policies.task_graph import NO_STREAM, TaskGraph

DURATIONS = st.one_of(st.sampled_from([0.0, 0.0, 1.0, 1.0, 2.0, 3.0]), st.floats(0.0, 1e3), st.floats(0.0, 1e-9))
WHOLE = st.sampled_from([1.0, 2.0, 3.0, 5.0])


@st.composite
def task_graphs(
    draw: Any,
    *,
    durations: Any = DURATIONS,
    by_priority: bool = False,
    budgets: Any = None,
    loose: bool = True,
    pools: int = 2,
    max_tasks: int = 24,
) -> TaskGraph:
    """Tasks that wait for others anywhere in the graph, never in a circle; every byte taken is given back."""
    streams = draw(st.integers(1, 4))
    tasks = draw(st.integers(0, max_tasks))
    drafts = []
    for number in range(tasks):
        earlier = st.integers(0, number - 1)
        drafts.append(
            {
                "stream": draw(st.integers(NO_STREAM if loose else 0, streams - 1)),
                "duration_s": draw(durations),
                "after": draw(st.lists(earlier, max_size=4)) if number else [],  # twice the same is allowed
                "priority": draw(st.integers(-1, 1)) if by_priority else 0,
            }
        )
    held = []
    for number in range(tasks if budgets is not None else 0):
        if draw(st.booleans()):
            giver = draw(st.integers(number, tasks - 1))
            held.append((number, giver, draw(st.integers(0, pools - 1)), float(draw(st.integers(1, 4)))))
            if giver != number:
                drafts[giver]["after"].append(number)
    order = list(range(tasks))
    if draw(st.booleans()):  # one stream after another, as a schedule writes its devices' programs
        order.sort(key=lambda number: drafts[number]["stream"])
    graph = TaskGraph()
    for stream in range(streams):
        graph.add_stream(stream % 2, f"stream {stream}", by_priority=by_priority and draw(st.booleans()))
    index = {}
    for number in order:
        draft = drafts[number]
        index[number] = graph.add(draft["stream"], draft["duration_s"], "work", priority=draft["priority"])
    for number in order:
        graph.wait_for(index[number], *(index[other] for other in drafts[number]["after"]))
    if budgets is not None:
        for device in range(pools):
            graph.add_pool(device, "hbm", draw(budgets))
        for taker, giver, pool, size in held:
            graph.acquire(index[taker], pool, size, f"owner {taker % 3}")
            graph.release(index[giver], pool, size, f"owner {taker % 3}")
    return graph


def ready_s(graph: TaskGraph, end_s: list[float], task: int) -> float:
    """When everything that a task waits for has ended, its FIFO stream included."""
    before = [other for other in range(task) if graph.stream[other] == graph.stream[task] != NO_STREAM]
    return max((end_s[other] for other in [*graph.after[task], *before[-1:]]), default=0.0)


def pipeline(stages: int, micro_batches: int, forward_s: float, backward_s: float, schedule: str) -> TaskGraph:
    """A GPipe or 1F1B step without sends, one activation of a byte for each forward that waits for its backward."""
    graph = TaskGraph()
    forward, backward = {}, {}
    for stage in range(stages):
        stream, pool = graph.add_stream(stage, "compute"), graph.add_pool(stage, "hbm")
        ahead = micro_batches if schedule == "gpipe" else min(stages - stage, micro_batches)
        program = [("F", m) for m in range(ahead)]
        for m in range(micro_batches):
            program.append(("B", m))
            if m + ahead < micro_batches:
                program.append(("F", m + ahead))
        for what, m in program:
            if what == "F":
                forward[stage, m] = graph.add(stream, forward_s, "forward", name=f"forward {m}")
                graph.acquire(forward[stage, m], pool, 1.0, "activations")
            else:
                backward[stage, m] = graph.add(stream, backward_s, "backward", name=f"backward {m}")
                graph.release(backward[stage, m], pool, 1.0, "activations")
    for (stage, m), task in forward.items():
        if stage:
            graph.wait_for(task, forward[stage - 1, m])
        graph.wait_for(backward[stage, m], backward[stage + 1, m] if stage < stages - 1 else task)
    return graph
