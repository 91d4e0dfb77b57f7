"""Deployments of many plans of one scenario: layers are priced once a cut, stages once a shape, fabrics once a group.

What comes out equals `sim.training.deployment.deploy_training` of the plan's scenario.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hardware_models import catalog
from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.ops import DeviceOp
from hardware_models.price import Floats, Price
from hardware_models.specs import GpuSpec
from policies.parallelism import SCHEDULES, SHARDING, Layout, PipelineSchedule, Sharding, check_layout
from sim.plan.training.plan import Choice, TrainingPlan
from sim.policy_choice import make_policy
from sim.training.deployment import TrainingDeployment, deploy_training, lay_out, split_stages
from sim.training.fabrics import rank_fabric
from sim.training.stage import StagePricer, StageWork
from sim.training_scenario import TrainingScenario
from workloads.models.stages import LayerRange


class KeptDevice(Device):
    """A device that prices an operator at a clock once."""

    def __init__(self, spec: GpuSpec) -> None:
        super().__init__(spec)
        self._prices: dict[tuple[DeviceOp, float], Price] = {}
        self._sigmas: dict[tuple[DeviceOp, int], Floats] = {}

    def price(self, op: DeviceOp, clock: float = 1.0) -> Price:
        """As `Device.price`."""
        key = (op, clock)
        if key not in self._prices:
            self._prices[key] = super().price(op, clock)
        return self._prices[key]

    def sigma(self, op: DeviceOp, price: Price) -> Floats:
        """As `Device.sigma`, of a price of its own."""
        key = (op, id(price))
        if key not in self._sigmas:
            self._sigmas[key] = super().sigma(op, price)
        return self._sigmas[key]


class Deployer:
    """Keeps what plans of a scenario share."""

    def __init__(self, base: TrainingScenario) -> None:
        self.base = base
        self.node = catalog.node(base.cluster.node)
        self._device = KeptDevice(catalog.gpu(self.node.gpu))
        self._of_cut: dict[tuple[Any, ...], TrainingDeployment] = {}  # some deployment with these prices of layers
        self._stages: dict[tuple[Any, ...], StageWork] = {}
        self._splits: dict[tuple[Any, ...], tuple[LayerRange, ...]] = {}
        self._fabrics: dict[tuple[int, int], AnyFabric | None] = {}
        self._shardings: dict[tuple[Choice, int, int], Sharding] = {}
        self._policies: dict[tuple[str, Choice], Any] = {}

    def deploy(self, plan: TrainingPlan) -> TrainingDeployment:
        """A plan made concrete; raises ImpossibleError for one that cannot be."""
        alike = self.alike(plan)
        scenario = plan.scenario(self.base)
        schedule, layout = self.schedule(plan), lay_out(scenario, plan.gpus)
        training = scenario.training
        ends = int(training.account_for_embedding_in_pipeline_split) + int(training.account_for_loss_in_pipeline_split)
        check_layout(layout, alike.architecture, schedule, training.seq_length, ends=ends)
        parts, copies = self.split(plan), layout.dp * layout.cp
        return replace(
            alike,
            scenario=scenario,
            layout=layout,
            schedule=schedule,
            sharding=self.sharding(plan),
            stages=tuple(
                self.stage(plan, part, first=at == 0, last=at == len(parts) - 1) for at, part in enumerate(parts)
            ),
            stage_layers=tuple(max(1, part.stop - part.start) for part in parts),
            data_fabric=self._fabric(copies, layout.tp),
            pipeline_fabric=self._fabric(min(layout.pp, 2), layout.tp * copies),
            expert_sharding=self.expert_sharding(plan),
            cluster_gpus=plan.gpus,
        )

    def pricer(self, plan: TrainingPlan) -> StagePricer:
        """Of a plan's cut and recomputation."""
        return self.alike(plan).pricer

    def stage(self, plan: TrainingPlan, part: LayerRange, *, first: bool, last: bool) -> StageWork:
        """One stage's work; stages with as many layers of each kind are priced once."""
        pricer = self.pricer(plan)
        counts = tuple(part.count(group) for group in pricer.architecture.groups)
        key = (plan.cut, counts, first, last)
        if key not in self._stages:
            self._stages[key] = pricer.stage(part, first=first, last=last)
        return self._stages[key]

    def split(self, plan: TrainingPlan) -> tuple[LayerRange, ...]:
        """Layers of each stage; raises ImpossibleError."""
        stages = self.schedule(plan).stages(plan.pp)
        scenario = plan.scenario(self.base)
        by_price = scenario.training.layers_per_stage == "balanced"
        key = (stages, plan.split, plan.cut if by_price else None)
        if key not in self._splits:
            self._splits[key] = tuple(split_stages(scenario, self.pricer(plan), stages))
        return self._splits[key]

    def schedule(self, plan: TrainingPlan) -> PipelineSchedule:
        """The pipeline schedule of a plan."""
        found: PipelineSchedule = self._policy("schedule", plan.schedule, SCHEDULES)
        return found

    def sharding(self, plan: TrainingPlan) -> Sharding:
        """What its copies share out; raises ImpossibleError where copies and servers do not allow it."""
        return self._sharding(plan, plan.dp * plan.cp, plan.tp)

    def expert_sharding(self, plan: TrainingPlan) -> Sharding:
        """What copies of the same experts share out."""
        layout = self.layout(plan)
        return self._sharding(plan, layout.expert_copies, layout.etp * layout.ep)

    def layout(self, plan: TrainingPlan) -> Layout:
        """Ranks along each dimension."""
        return lay_out(plan.scenario(self.base), plan.gpus)

    def _sharding(self, plan: TrainingPlan, copies: int, stride: int) -> Sharding:
        key = (plan.sharding, copies, stride)
        if key not in self._shardings:
            found: Sharding = self._policy("sharding", plan.sharding, SHARDING)
            self._shardings[key] = found.placed(copies, max(1, self.node.gpus // stride))
        return self._shardings[key]

    def alike(self, plan: TrainingPlan) -> TrainingDeployment:
        """Some deployment with the same cut: layers, GPU and framework are those of the plan."""
        if plan.cut not in self._of_cut:
            self._of_cut[plan.cut] = deploy_training(plan.scenario(self.base), self._device)
        return self._of_cut[plan.cut]

    def _policy(self, key: str, choice: Choice, registry: dict[str, Any]) -> Any:
        if (key, choice) not in self._policies:
            self._policies[key, choice] = make_policy(f"training.{key}", choice.policy, registry, {})
        return self._policies[key, choice]

    def _fabric(self, ranks: int, stride: int) -> AnyFabric | None:
        if (ranks, stride) not in self._fabrics:
            self._fabrics[ranks, stride] = rank_fabric(self.base, self.node, ranks, stride)
        return self._fabrics[ranks, stride]
