"""Where a step of paired passes goes: forwards, backwards and weights' gradients alone, pairs, optimizer, the rest.

As DeepSeek breaks down DualPipe's steps (arXiv 2505.09343, table 4: 1F, 1B, 1W, 1F1B, bubble, opt); means over ranks.
"""

from __future__ import annotations

from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from sim.training.deployment import TrainingDeployment
from sim.training.paired import paired_seconds
from sim.training.simulate import TrainingRun
from sim.training.step_graph import slot_times
from sim.training.step_kinds import OPTIMIZER

ALONE = {FORWARD: "forward", BACKWARD: "backward", BACKWARD_INPUT: "backward", BACKWARD_WEIGHT: "weight"}
PHASES = ("forward", "backward", "weight", "paired", "optimizer", "bubble")


def phase_seconds(run: TrainingRun) -> dict[str, float]:
    """Seconds of each of PHASES; they sum to the step."""
    deployment, graph = run.deployment, run.graph
    schedule, layout = deployment.schedule, deployment.layout
    programs = schedule.programs(layout.pp, layout.micro_batches, slot_times(deployment))
    joined = schedule.joined(programs)
    pairs = {
        f"{slot.work} {slot.micro_batch} stage {slot.stage}"
        for row in programs
        for index, slot in enumerate(row)
        if slot in joined or (index and row[index - 1] in joined)
    }
    phases = dict.fromkeys(PHASES, 0.0)
    for seconds, kind, name in zip(graph.duration_s, graph.kind, graph.name, strict=True):
        if name in pairs:
            phases["paired"] += seconds / layout.pp
        elif kind in ALONE:
            phases[ALONE[kind]] += seconds / layout.pp
        elif kind == OPTIMIZER:
            phases["optimizer"] += seconds / layout.pp
    phases["bubble"] = run.step_s - sum(phases.values())
    return phases


def pair_seconds(deployment: TrainingDeployment) -> float:
    """Of one forward and backward in a pair, of the stage in the middle."""
    work = deployment.stages[len(deployment.stages) // 2]
    return paired_seconds(work.forward, work.backward, deployment.framework.expert_sms / deployment.gpu.sm_count)
