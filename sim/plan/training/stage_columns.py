"""What each stage of a plan takes, as columns with an entry a stage: cheap enough for every plan of a space.

A stage's figures are linear in its layers where all layers are of one kind, so that stages of one and two layers price
all others; at the model's ends, where a head may hide how late the host is, they are at most the stage's own. They may
be off by rounding; what is evaluated takes the stages' own figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.plan.training.deployer import Deployer
from sim.plan.training.plan import TrainingPlan
from sim.training.stage import StageWork
from workloads.models.stages import LayerRange

Floats = NDArray[np.float64]
FIGURES = (
    "forward_s", "backward_s", "activation_bytes", "parameters", "working_bytes", "recompute_s", "network_s",
    "expert_parameters",
)  # fmt: skip
WORKING = FIGURES.index("working_bytes")  # the same however many layers there are


@dataclass(frozen=True, slots=True)
class StageColumns:
    """Of one rank and micro-batch; each (stages,)."""

    forward_s: Floats
    backward_s: Floats
    activation_bytes: Floats
    parameters: Floats
    working_bytes: Floats
    recompute_s: Floats  # part of the backward
    network_s: Floats  # part of both: exchanges among the ranks that share a layer
    expert_parameters: Floats  # part of the parameters
    layers: NDArray[np.int64]


class ColumnWriter:
    """Writes the columns of any plan of a scenario."""

    def __init__(self, deployer: Deployer) -> None:
        self.deployer = deployer
        self._of_cut: dict[tuple[Any, ...], dict[tuple[int, bool, bool], StageWork]] = {}
        self._last: tuple[tuple[Any, ...], StageColumns] | None = None  # plans that share them follow one another

    def columns(self, plan: TrainingPlan) -> StageColumns:
        """Raises ImpossibleError for layers that cannot be split so."""
        parts = self.deployer.split(plan)
        key = (plan.cut, len(parts), plan.split)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._columns(plan, parts))
        return self._last[1]

    def _columns(self, plan: TrainingPlan, parts: tuple[LayerRange, ...]) -> StageColumns:
        layers = np.array([part.stop - part.start for part in parts])
        one_kind = len(self.deployer.pricer(plan).architecture.groups) == 1
        if one_kind and layers.min() >= 1 and not plan.recompute.keys:
            table = self._linear(plan, layers)
        else:
            last = len(parts) - 1
            works = [self.deployer.stage(plan, part, first=at == 0, last=at == last) for at, part in enumerate(parts)]
            table = np.array([_figures(work) for work in works]).T
        columns: dict[str, Any] = dict(zip(FIGURES, table, strict=True))
        return StageColumns(**columns, layers=np.maximum(layers, 1))

    def _linear(self, plan: TrainingPlan, layers: NDArray[np.int64]) -> Floats:
        lone = len(layers) == 1
        one, more = self._line(plan, first=False, last=False)
        table = one[:, None] + more[:, None] * (layers - 1)
        for at, first, last in ((0, True, lone), (-1, lone, True)):
            end, more = self._line(plan, first=first, last=last)
            table[:, at] = end + more * (layers[at] - 1)
        return table

    def _line(self, plan: TrainingPlan, *, first: bool, last: bool) -> tuple[Floats, Floats]:
        """Figures of a stage of one layer, and what one layer more adds: seconds are the larger of the device's and the
        host's, so that a line through two sizes is no more than those of larger ones.
        """
        one, two = (_figures(self._small(plan, layers, first=first, last=last)) for layers in (1, 2))
        more = two - one
        more[WORKING] = 0.0
        return one, more

    def _small(self, plan: TrainingPlan, layers: int, *, first: bool, last: bool) -> StageWork:
        known = self._of_cut.setdefault(plan.cut, {})
        key = (layers, first, last)
        if key not in known:
            pricer = self.deployer.pricer(plan)
            part = LayerRange(0, layers, pricer.architecture.num_layers)
            known[key] = pricer.stage(part, first=first, last=last)
        return known[key]


def _figures(work: StageWork) -> Floats:
    forward, backward = work.forward, work.backward
    return np.array([
        forward.seconds, backward.seconds, work.activation_bytes, work.parameters, work.working_bytes,
        work.recompute.seconds, forward.network_s + backward.network_s,
        work.expert_parameters,
    ])  # fmt: skip
