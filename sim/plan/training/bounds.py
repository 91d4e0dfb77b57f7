"""What no execution of a plan undercuts: seconds of its step and bytes of its fullest GPU, without running it.

Every stage's rank runs all its passes one after another. It cannot begin before the first micro-batch has come down to
it, and after its last pass that micro-batch must still go back up and gradients be exchanged; then all update their
weights together. What is here leaves out all that stages and copies
send each other; `sim.plan.training.exchange_bound` adds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hardware_models.dtypes import bytes_per_element
from policies.parallelism import Sharding
from policies.parallelism.schedules import PipelineSchedule
from sim.plan.training.alive import alive, in_order
from sim.plan.training.deployer import Deployer
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.stage_columns import ColumnWriter, Floats, StageColumns

ROUNDING = 1e-9  # relative: what sums in another order may be off by


PARTS = ("arithmetic and memory", "tensor-parallel exchanges", "recomputation", "pipeline fill and drain")


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one plan."""

    step_s: float
    peak_bytes: float  # of the fullest GPU
    state_bytes: float  # there: weights, gradients, optimizer
    parts_s: tuple[float, ...]  # of the busiest GPU's seconds, as in PARTS


@dataclass(frozen=True, slots=True)
class Shape:
    """What plans that differ in sharding alone share; each array has an entry a device."""

    columns: StageColumns
    micro_batches: int
    in_order: bool  # whatever the times, with whole backwards, the last of them of a device's first stage
    parameters: Floats
    expert_parameters: Floats
    activation_bytes: Floats  # at the peak, with what a pass works with
    passes_s: Floats  # of all micro-batches
    down_s: Floats  # of the first micro-batch's forwards, to a device's first stage
    up_s: Floats  # of the last one's backwards, from there
    parts_s: tuple[float, ...]  # as in PARTS

    @property
    def step_s(self) -> float:
        """Seconds of the passes alone."""
        if not self.in_order:
            return float(self.passes_s.max())
        return float((self.down_s + self.passes_s + self.up_s).max())


class Bounds:
    """Bounds of any plan of a scenario; plans that differ in sharding alone should come one after another."""

    def __init__(self, deployer: Deployer) -> None:
        self.deployer = deployer
        self._writer = ColumnWriter(deployer)
        self._shape: tuple[tuple[Any, ...], Shape] | None = None

    def of(self, plan: TrainingPlan) -> Bound:
        """Raises ImpossibleError for layers that cannot be split so."""
        shape, framework = self.shape(plan), self.deployer.alike(plan).framework
        state_bytes = self._state_bytes(plan, shape)
        peak_bytes = state_bytes + shape.activation_bytes
        at = int(peak_bytes.argmax())
        return Bound(
            step_s=(framework.host_s_per_step + shape.step_s) * (1 - ROUNDING),
            peak_bytes=(float(peak_bytes[at]) + framework.workspace_bytes) * (1 - ROUNDING),
            state_bytes=float(state_bytes[at]),
            parts_s=shape.parts_s,
        )

    def shape(self, plan: TrainingPlan) -> Shape:
        """What other shardings of the plan share with it."""
        key = (plan.cut, plan.pp, plan.dp, plan.schedule, plan.split, plan.gpus)
        if self._shape is None or self._shape[0] != key:
            self._shape = (key, self._new_shape(plan))
        return self._shape[1]

    def _new_shape(self, plan: TrainingPlan) -> Shape:
        schedule, columns = self.deployer.schedule(plan), self._writer.columns(plan)
        micro_batches = self.deployer.base.training.global_batch_size // (plan.micro_batch * plan.dp)
        held, run = _holders(schedule, plan.pp, len(columns.forward_s))
        known = in_order(schedule)
        if known:
            activation_bytes = alive(schedule, plan.pp, micro_batches).peak_bytes(
                columns.activation_bytes, columns.working_bytes
            )
        else:  # of one micro-batch at least
            activation_bytes = (held * (columns.activation_bytes + columns.working_bytes)).max(axis=1)
        works_s = columns.forward_s + columns.backward_s
        if self.deployer.base.training.overlap_moe_expert_parallel_comm or not known:
            works_s = works_s - columns.network_s  # pairs of passes may hide it
        passes_s = micro_batches * (run @ works_s)
        down_s, up_s = before(columns.forward_s, plan.pp), before(columns.backward_s, plan.pp)
        at = int((down_s + passes_s + up_s).argmax())
        network_s, again_s = (micro_batches * float(run[at] @ one) for one in (columns.network_s, columns.recompute_s))
        return Shape(
            columns=columns,
            micro_batches=micro_batches,
            in_order=known,
            parameters=held @ columns.parameters,
            expert_parameters=held @ columns.expert_parameters,
            activation_bytes=activation_bytes,
            passes_s=passes_s,
            down_s=down_s,
            up_s=up_s,
            parts_s=(
                float(passes_s[at]) - network_s - again_s,
                network_s,
                again_s,
                float(down_s[at] + up_s[at]) * known,
            ),
        )

    def _state_bytes(self, plan: TrainingPlan, shape: Shape) -> Floats:
        """Weights, gradients and optimizer state that each device holds at least."""
        alike, copies = self.deployer.alike(plan), self.deployer.schedule(plan).copies
        weight = alike.held_weight_bytes
        gradient = bytes_per_element(alike.framework.kernels.gradient_dtype)

        def each(sharding: Sharding, ranks: int) -> float:
            state = sharding.optimizer_parameters(1.0, ranks) * alike.framework.optimizer_state_bytes
            held = sharding.weight_bytes(1.0, ranks, weight) + sharding.gradient_bytes(1.0, ranks, gradient)
            return held + state / copies

        dense = shape.parameters * each(self.deployer.sharding(plan), plan.dp * plan.cp)
        if not shape.expert_parameters.any():
            return np.asarray(dense, dtype=np.float64)
        ranks = self.deployer.layout(plan).expert_copies
        more = each(self.deployer.expert_sharding(plan), ranks) - each(self.deployer.sharding(plan), plan.dp * plan.cp)
        return np.asarray(dense + shape.expert_parameters * more, dtype=np.float64)


@cache
def _holders(schedule: PipelineSchedule, devices: int, stages: int) -> tuple[Floats, Floats]:
    """Which stages' weights each device holds, and what share of a stage's micro-batches it runs: (devices, stages)."""
    held = np.zeros((devices, stages))
    for device in range(devices):
        held[device, list(schedule.stages_on(device, devices))] = 1.0
    return held, held / held.sum(axis=0)


def before(of_stages: Floats, devices: int) -> Floats:
    """What comes before the first stage of each device."""
    return np.concatenate([[0.0], np.cumsum(of_stages[: devices - 1])])
