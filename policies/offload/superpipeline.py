"""Superpipeline: of a model's layers k are on the GPU, and k' at a time are swapped (arXiv 2410.08791, abstract).

Weights, gradients and states live in host memory, as ZeRO-Infinity has them there; what is swapped is a group of k'
layers: when one has run it makes room, and the next that is missing comes while those that are there compute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated, Literal

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.offload.passes import WEIGHTS, Placement
from policies.offload.work import GPU, WEIGHT_BYTES, LayerWork, Machine, Needs, OffloadWork
from policies.offload.zero_infinity import ZeroInfinity
from policies.task_graph import TaskGraph

Layers = Annotated[int, Interval(ge=1, le=4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Superpipeline:
    """resident_layers: k, two groups at least; absent: the fewest that compute as long as a group's copy takes, and the
    group. moved_layers: k'.
    """

    resident_layers: Layers | None = None
    moved_layers: Layers = 1
    activations: Literal["gpu", "host"] = "gpu"

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier; raises ImpossibleError for a window of less than two groups."""
        inner = self._inner(work, machine).needs(*self._of(work, machine))
        found = {tier: dict(owners) for tier, owners in inner.by_tier.items()}
        found[GPU][WEIGHTS] = max(found[GPU][WEIGHTS], self._window(work, machine) * WEIGHT_BYTES)
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        return self._inner(work, machine).write(*self._of(work, machine))

    def resident(self, work: OffloadWork, machine: Machine) -> int:
        """Layers on the GPU."""
        if self.resident_layers is not None:
            if self.resident_layers < 2 * self.moved_layers:
                raise ImpossibleError(
                    f"offload.policy.resident_layers = {self.resident_layers}: while a group of {self.moved_layers}"
                    f" computes another comes; make it {2 * self.moved_layers} at least"
                )
            return self.resident_layers
        layer = joined(work.layers[1 : 1 + work.pieces])
        copy_s = work.part(layer) * WEIGHT_BYTES / min(machine.links[link] for link in machine.h2d)
        return self.moved_layers * (1 + max(1, ceil(copy_s / layer.forward_s)))

    def _window(self, work: OffloadWork, machine: Machine) -> float:
        """Parameters on the GPU."""
        layers = self.resident(work, machine)
        inner = work.layers[1:-1]
        return sum(one.parameters for one in inner[: layers * work.pieces])

    def _inner(self, work: OffloadWork, machine: Machine) -> ZeroInfinity:
        window = self._window(work, machine)
        return _Window(parameters="host", activations=self.activations, max_live_parameters=window)

    def _of(self, work: OffloadWork, machine: Machine) -> tuple[OffloadWork, Machine]:
        """The work with groups for layers."""
        inner, size = work.layers[1:-1], work.pieces * self.moved_layers
        groups = [joined(inner[first : first + size]) for first in range(0, len(inner), size)]
        return replace(work, layers=(work.layers[0], *groups, work.layers[-1]), pieces=1), machine


class _Window(ZeroInfinity):
    """Where passes turn round, what is on the GPU stays there."""

    __slots__ = ()

    def _placement(self, work: OffloadWork) -> Placement:
        return replace(ZeroInfinity._placement(self, work), reuses=True)


def joined(layers: tuple[LayerWork, ...]) -> LayerWork:
    """One after another, moved as one."""
    first, last = layers[0], layers[-1]
    return replace(
        first,
        name=first.name if first is last else f"{first.name} to {last.name}",
        parameters=sum(one.parameters for one in layers),
        forward_s=sum(one.forward_s for one in layers),
        backward_s=sum(one.backward_s for one in layers),
        recompute_s=sum(one.recompute_s for one in layers),
        kept_bytes=sum(one.kept_bytes for one in layers),
        working_bytes=max(one.working_bytes for one in layers),
        products=(),
        forward_bytes=max(one.forward_bytes for one in layers),
    )
