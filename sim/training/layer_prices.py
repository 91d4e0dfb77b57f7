"""What layers of a training plan take on its device and links, at the clock that its power limit lets them run at."""

from __future__ import annotations

from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.specs import NodeSpec
from hardware_models.topology.groups import RankGroup
from hardware_models.training_framework import TrainingFramework
from policies.parallelism import Layout, PipelineSchedule, Recompute
from sim.training.context_pricing import ContextLinks, ContextPrices
from sim.training.fabrics import layer_fabric
from sim.training.paired import paired_work
from sim.training.power_limit import power_limits, sustained_clock
from sim.training.pricing import OperatorPrices
from sim.training.stage import StagePricer
from sim.training.vocabulary import mtp_layers
from sim.training_scenario import TrainingScenario
from workloads.models.architecture import ModelArchitecture
from workloads.training.cut import Cut, Kernels


def operator_prices(
    scenario: TrainingScenario,
    node: NodeSpec,
    layout: Layout,
    tensor: AnyFabric | None,
    framework: TrainingFramework,
    device: Device,
) -> OperatorPrices:
    """Prices of operators on one rank; tensor: among ranks that share each product."""
    groups = (RankGroup(layout.tp, ranks) for ranks in (layout.cp, min(layout.cp, 2)))
    fabric, pair = (layer_fabric(scenario, node, layout, group) for group in groups)
    if fabric is None or pair is None:
        return OperatorPrices(device, tensor, framework)
    return ContextPrices(device, tensor, framework, ContextLinks(fabric, pair))


def stage_pricer(
    scenario: TrainingScenario,
    architecture: ModelArchitecture,
    cut: Cut,
    prices: OperatorPrices,
    schedule: PipelineSchedule,
    recompute: Recompute,
) -> StagePricer:
    """Prices of stages at the clock that the power limit, or a lock, lets all layers run at."""
    training, framework, gpu = scenario.training, prices.framework, prices.device.spec
    own = {"fused_norm": training.fused_norm, "fused_softmax": training.fused_softmax}
    fused = framework.kernels.model_dump() | {key: value for key, value in own.items() if value is not None}
    mtp = mtp_layers(training, schedule)
    pricer = StagePricer(architecture, cut, Kernels(**fused), prices, recompute, mtp)
    work = pricer.all_layers()
    if training.overlap_moe_expert_parallel_comm or schedule.copies > 1:
        work = paired_work(work, framework.expert_sms / gpu.sm_count)
    prices.clock = sustained_clock(work, gpu, power_limits(scenario.power, gpu))
    return pricer if prices.clock >= 1.0 else StagePricer(architecture, cut, Kernels(**fused), prices, recompute, mtp)
