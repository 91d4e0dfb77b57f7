"""Runs an offloaded step: does it fit every tier, its graph on the clock, what each tier held and each link carried."""

from __future__ import annotations

from dataclasses import dataclass

from policies.offload import DRIVES, GPU, HOST, Needs, TierError
from policies.parallelism.schedules import BACKWARD, FORWARD, Slot
from policies.task_graph import TaskGraph
from sim.graph.event_loop import execute_quickly
from sim.graph.memory import Peak
from sim.graph.uncollected import uncollected
from sim.offload.deployment import OffloadDeployment, deploy_offload
from sim.offload.memory import tier_peaks
from sim.training.data_parallel import Exchanges
from sim.training.memory import MemoryUse
from sim.training.simulate import TrainingRun
from sim.training_scenario import TrainingScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadRun(TrainingRun):
    """One offloaded step, run; figures of memory are of one rank."""

    plan: OffloadDeployment
    needs: Needs
    tier_peaks: dict[str, Peak]  # what each tier held at most

    @property
    def needs_short(self) -> dict[str, float]:
        """Tiers that the plan needs more of than there is, and how many bytes."""
        return self.needs.short(self.plan.machine)

    @property
    def verdict(self) -> str:
        """Which tier is short and by how much, or how full the GPU gets."""
        try:
            self.needs.check(self.plan.machine)
        except TierError as error:
            return str(error)
        return self.memory.verdict().replace("pipeline stage 0", "a GPU")


def simulate_offload(scenario: TrainingScenario) -> OffloadRun:
    """Run one step; raises ImpossibleError for a plan that cannot be, TierError for one that a tier is too small for.

    With training.check_memory false a plan that does not fit runs too, as if its tiers were as large as it needs.
    """
    plan = deploy_offload(scenario)
    needs = plan.policy.needs(plan.work, plan.machine)
    if scenario.training.check_memory:
        needs.check(plan.machine)
    if not plan.machine.read_bytes_per_s and (missing := needs.total(DRIVES)):
        raise TierError(DRIVES, missing, missing, dict(needs.by_tier[DRIVES]))
    with uncollected():
        graph = plan.policy.write(plan.work, plan.machine)
        times = execute_quickly(graph)
    peaks = tier_peaks(graph, times)
    memory = MemoryUse(
        (peaks[GPU],),
        plan.machine.budgets[GPU],
        peaks[HOST].used_bytes,
        plan.machine.budgets[HOST],
    )
    step_s = times.makespan_s
    return OffloadRun(
        plan.training, _exchanges(plan, graph), graph, times, memory, step_s, step_s,
        plan=plan, needs=needs, tier_peaks=peaks,
    )  # fmt: skip


def _exchanges(plan: OffloadDeployment, graph: TaskGraph) -> Exchanges:
    """Which task is part of which pass, as the account of watts wants it."""
    exchanges = Exchanges(plan.training)
    for kind in (FORWARD, BACKWARD):
        tasks = [task for task, name in enumerate(graph.kind) if name == kind]
        each = len(tasks) // plan.work.micro_batches
        exchanges.slots |= {task: Slot(kind, place // each, 0) for place, task in enumerate(tasks)}
    return exchanges
