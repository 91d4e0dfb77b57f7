"""Exchanges among all devices of a pipeline, where its schedule lets them meet: each kind on a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hardware_models.dtypes import bytes_per_element
from policies.parallelism.schedules import PipelineSchedule, Programs, owners
from policies.parallelism.schedules.meeting import AGREE, BROADCAST, REDUCE
from policies.parallelism.schedules.vocabulary import VocabularyParallel
from policies.task_graph import NO_STREAM, TaskGraph
from sim.training.deployment import TrainingDeployment
from sim.training.fabrics import rank_fabric
from sim.training.node_places import slower


def meetings_s(deployment: TrainingDeployment, slowdown: float = 1.0) -> tuple[tuple[str, float], ...]:
    """Kinds of a schedule's meetings, and seconds of what is exchanged.

    slowdown: times as long that the slowest pair of servers in a ring takes.

    A ring hands one rank's output to all, or adds parts up at one, as fast as it gathers or scatters as many bytes; of
    each token the largest score and the sum of exponentials go through all-reduces (2411.05288, section 4).
    """
    schedule, layout, cut = deployment.schedule, deployment.layout, deployment.cut
    if not isinstance(schedule, VocabularyParallel):
        return ()
    fabric = rank_fabric(deployment.scenario, deployment.node, layout.pp, layout.tp * layout.cp * layout.dp)
    if fabric is None:
        return ()
    fabric = slower(fabric, slowdown)
    output_bytes = cut.residual_tokens * deployment.architecture.hidden_size * bytes_per_element(cut.dtype)
    broadcast_s = float(fabric.seconds("all_gather", output_bytes))
    agree_s = 2 * float(fabric.seconds("all_reduce", cut.tokens * bytes_per_element("fp32")))
    reduce_s = float(fabric.seconds("reduce_scatter", output_bytes))
    if schedule.gradient_in_scores:
        return (BROADCAST, broadcast_s), (AGREE, agree_s + reduce_s)
    return (BROADCAST, broadcast_s), (AGREE, agree_s), (REDUCE, reduce_s)


def meet(
    graph: TaskGraph,
    schedule: PipelineSchedule,
    programs: Programs,
    seconds: dict[str, float],
    first: Sequence[int],
    last: Sequence[int],
) -> None:
    """Add the meetings of a step whose slots begin and end with tasks `first` and `last`."""
    streams: dict[tuple[str, int], int] = {}
    owner = owners(programs)
    for kind, sources, targets in schedule.meetings(programs):
        there = graph.add(NO_STREAM, 0.0, f"{kind}: all there", [last[source] for source in sources])
        for device in range(len(programs)):
            if (kind, device) not in streams:
                streams[kind, device] = graph.add_stream(device, kind)
            exchange = graph.add(streams[kind, device], seconds[kind], kind, [there])
            for target in targets:
                if owner[target] == device:
                    graph.wait_for(first[target], exchange)
