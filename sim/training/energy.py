"""Energy of a training step: watts of every GPU by what it does, over the time it does it."""

from __future__ import annotations

from hardware_models.power import Activity, power_model
from hardware_models.training_framework import TrainingFramework
from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from sim.training.pricing import Spent
from sim.training.simulate import TrainingRun
from sim.training.stage import StageWork

WORK = {FORWARD: "forward", BACKWARD: "backward", BACKWARD_INPUT: "backward_input", BACKWARD_WEIGHT: "backward_weight"}


def step_energy_j(run: TrainingRun, idle_s: list[float]) -> float:
    """Joules of all GPUs of the layout in one step; idle_s: of each pipeline stage's compute stream."""
    deployment = run.deployment
    model = power_model(deployment.gpu)
    gpu, dtype = deployment.gpu, deployment.cut.dtype

    def watts(spent: Spent) -> float:
        seconds = spent.seconds or 1.0
        compute = spent.matrix_flop / seconds / gpu.peak_flop_per_s[dtype]
        memory = min(1.0, spent.moved_bytes / seconds / gpu.memory_bandwidth_bytes_per_s)
        return float(model.watts(Activity(1.0, compute, memory)))

    total = 0.0
    for device, program_idle_s in enumerate(idle_s):
        total += program_idle_s * model.awake_w
        for stage in deployment.schedule.stages_on(device, deployment.layout.pp):
            work = deployment.stages[stage]
            for part in (work.forward, work.backward):
                total += watts(part) * part.seconds * deployment.layout.micro_batches
        total += _optimizer_j(run, device, deployment.framework)
    layout = deployment.layout
    return total * layout.tp * layout.cp * layout.dp


def _optimizer_j(run: TrainingRun, device: int, framework: TrainingFramework) -> float:
    """A pass over memory; the host's part of a step counts as awake."""
    model = power_model(run.deployment.gpu)
    seconds = run.exchanges.optimizer_s(device)
    streaming = float(model.watts(Activity(1.0, 0.0, 0.8)))
    return streaming * seconds + model.awake_w * framework.host_s_per_step


def spent_of(stage: StageWork, work: str) -> Spent:
    """What a stage spends on a slot's work."""
    spent: Spent = getattr(stage, WORK[work])
    return spent
