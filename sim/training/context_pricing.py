"""Seconds of attention over a sequence that ranks share: each step takes its blocks or its bytes, whichever is longer.

Ranks go at the pace of the slowest, which computes the slower of a step's shapes every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from hardware_models.device import Device
from hardware_models.ops import Collective
from hardware_models.training_framework import TrainingFramework
from sim.training.pricing import FACTORS, NOTHING, OperatorPrices, Spent, total
from workloads.training.operator import ContextStep, TrainingOp, TrainingOperator

COLLECTIVES = FACTORS.index("collectives")


@dataclass(frozen=True, slots=True)
class ContextLinks:
    """Links among ranks that share a sequence; `pair`: of two neighbours, which a mesh gives links of their own."""

    fabric: AnyFabric
    pair: AnyFabric

    def sends_s(self, sizes_bytes: Iterable[float]) -> float:
        """Seconds until every rank has sent all of these, each to another rank, and all have arrived.

        They leave a rank by one port, except in a mesh, where each has its own link.
        """
        sizes = [size for size in sizes_bytes if size > 0]
        if not sizes:
            return 0.0
        levels = [self.fabric]
        if isinstance(self.fabric, HierarchicalFabric):
            levels = [self.fabric.inner, self.fabric.outer]
        return max(self._hop_s(level, sizes) for level in levels if isinstance(level, Fabric))

    def sigma(self, size_bytes: float) -> float:
        """Standard deviation of log(measured / predicted) of a send."""
        return float(self.fabric.sigma("send_recv", size_bytes))

    def _hop_s(self, level: Fabric, sizes: list[float]) -> float:
        """Between two neighbours, while all ranks send."""
        if level.link.topology == "mesh":
            near = self.pair.inner if isinstance(self.pair, HierarchicalFabric) else self.pair
            return max(float(near.seconds("send_recv", size)) for size in sizes)
        size = sum(sizes)
        seconds = float(level.seconds("send_recv", size))
        alone = replace(level, ranks=2)
        # a host whose paths the ranks share: a lone send does not meet the others'
        return seconds + size * max(0.0, 1.0 / level.bytes_per_s - 1.0 / alone.bytes_per_s)


class ContextPrices(OperatorPrices):
    """Prices operators of ranks that share a sequence with others."""

    def __init__(
        self, device: Device, fabric: AnyFabric | None, framework: TrainingFramework, links: ContextLinks
    ) -> None:
        super().__init__(device, fabric, framework)
        self.links = links

    def forward(self, operator: TrainingOperator) -> Spent:
        """Its steps with other ranks' parts of the sequence too."""
        return super().forward(operator).plus(steps_spent(operator.forward_steps, self.links, self.op))

    def forward_steps(self, operator: TrainingOperator) -> list[Spent]:
        """Each of its steps with other ranks' parts of the sequence."""
        return [_step_spent(step, self.links, self.op) for step in operator.forward_steps]

    def backward_input(self, operator: TrainingOperator) -> Spent:
        """Its steps with other ranks' parts of the sequence too."""
        return super().backward_input(operator).plus(steps_spent(operator.backward_steps, self.links, self.op))


def steps_spent(steps: tuple[ContextStep, ...], links: ContextLinks, priced: Callable[[TrainingOp], Spent]) -> Spent:
    """All steps of a rank, one after another; priced: of a kernel."""
    return total(_step_spent(step, links, priced) for step in steps)


def _step_spent(step: ContextStep, links: ContextLinks, priced: Callable[[TrainingOp], Spent]) -> Spent:
    work = max((total(map(priced, block)) for block in step.blocks), key=lambda spent: spent.seconds, default=NOTHING)
    sends_s = links.sends_s(step.sends_bytes)
    exposed_s = max(0.0, sends_s - work.seconds)
    sigma = links.sigma(max(step.sends_bytes)) if exposed_s else 0.0
    spent = work.plus(_exchanged(exposed_s, sigma, len(step.sends_bytes)))
    return _alone(step.exchange, links).plus(spent)


def _alone(collective: Collective | None, links: ContextLinks) -> Spent:
    if collective is None:
        return NOTHING
    seconds = float(links.fabric.seconds(collective.kind, collective.payload_bytes))
    return _exchanged(seconds, float(links.fabric.sigma(collective.kind, collective.payload_bytes)), 1)


def _exchanged(seconds: float, sigma: float, kernels: int) -> Spent:
    unsure = [0.0] * len(FACTORS)
    unsure[COLLECTIVES] = sigma * seconds
    return Spent(network_s=seconds, context_s=seconds, kernels=kernels, unsure_s=tuple(unsure))
