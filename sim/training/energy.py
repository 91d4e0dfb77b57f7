"""Energy of a training step: watts of every GPU by what it does, over the time it does it."""

from __future__ import annotations

from hardware_models.power import Activity, power_model
from hardware_models.training_framework import TrainingFramework
from sim.training.pricing import Spent
from sim.training.simulate import TrainingRun


def step_energy_j(run: TrainingRun, idle_s: list[float]) -> float:
    """Joules of all GPUs of the layout in one step; idle_s: of each pipeline stage's compute stream."""
    deployment = run.deployment
    model = power_model(deployment.gpu)
    gpu = deployment.gpu

    def watts(spent: Spent, stretch: float) -> float:
        seconds = spent.seconds * stretch or 1.0
        compute = min(1.0, spent.peak_s / seconds)
        memory = min(1.0, spent.moved_bytes / seconds / gpu.memory_bandwidth_bytes_per_s)
        return float(model.watts(Activity(1.0, compute, memory), deployment.clock))

    total = 0.0
    for device, program_idle_s in enumerate(idle_s):
        total += program_idle_s * model.awake_w + _optimizer_j(run, device, deployment.framework)
        passes = [
            (part, part.seconds * deployment.micro_batches_on(device, stage))
            for stage in deployment.schedule.stages_on(device, deployment.layout.pp)
            for part in (deployment.stages[stage].forward, deployment.stages[stage].backward)
        ]
        rest_s = program_idle_s + run.exchanges.optimizer_s(device) + deployment.framework.host_s_per_step
        alone_s = sum(seconds for _, seconds in passes)
        stretch = (run.step_s - rest_s) / alone_s if alone_s else 1.0  # pairs are shorter, slow GPUs' passes longer
        total += sum(watts(part, stretch) * seconds * stretch for part, seconds in passes)
    layout = deployment.layout
    return total * layout.tp * layout.cp * layout.dp


def _optimizer_j(run: TrainingRun, device: int, framework: TrainingFramework) -> float:
    """A pass over memory; the host's part of a step counts as awake."""
    model = power_model(run.deployment.gpu)
    seconds = run.exchanges.optimizer_s(device)
    bandwidth = run.deployment.gpu.memory_bandwidth_bytes_per_s
    share = run.exchanges.optimizer_bytes(device) / (seconds * bandwidth) if seconds else 0.0
    streaming = float(model.watts(Activity(1.0, 0.0, min(1.0, share)), run.deployment.clock))
    return streaming * seconds + model.awake_w * framework.host_s_per_step
