"""ZeRO-3 Offload and ZeRO-Infinity: weights come layer by layer, states wait in host memory or on drives.

Each rank keeps a part of every layer below its GPU and copies it over its own link, and ranks make layers whole among
them (bandwidth-centric partitioning, Rajbhandari et al., arXiv 2104.07857, section 6.1). After the backward, subgroups
of the states go through the CPU, from and to drives if they live there (section 5.1.2). Tiling cuts the largest layer's
working memory (section 5.1.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.offload.passes import GRADIENT, GRADIENTS, Passes, Placement, kept
from policies.offload.update import STATES, Update, pieces_of
from policies.offload.work import (
    DRIVES,
    FP32,
    GPU,
    HOST,
    STATE_BYTES,
    WEIGHT_BYTES,
    LayerWork,
    Machine,
    Needs,
    OffloadWork,
)
from policies.offload.writer import StepWriter
from policies.offload.zero_offload import Parameters
from policies.task_graph import TaskGraph

TIERS = {"gpu": GPU, "host": HOST, "nvme": DRIVES}
OVERFLOW = 1.25  # of the gradients: temporaries of the search for overflows (MemAscend, arXiv 2505.23254)
ON_THEIR_WAY = 2  # layers whose gradients are in host memory, where they go on to drives


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroInfinity:
    """Keys in DeepSpeed's words, sizes in parameters. gradients: DeepSpeed has one buffer for all in host memory."""

    optimizer_state: Literal["host", "nvme"] = "host"
    parameters: Literal["gpu", "host", "nvme"] = "host"
    gradients: Literal["host", "nvme"] = "host"
    activations: Literal["gpu", "host"] = "gpu"
    sub_group_size: Parameters = 1e9
    max_live_parameters: Parameters = 1e9
    buffer_count: Annotated[int, Interval(ge=1, le=64)] = 2  # subgroups whose states may be in host memory at once
    tiles: Annotated[int, Interval(ge=1, le=1024)] = 1

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier; raises ImpossibleError for gradients on drives that micro-batches are summed to."""
        if self.gradients == "nvme" and (work.micro_batches > 1 or self.optimizer_state == "host"):
            raise ImpossibleError(
                "offload.policy.gradients = 'nvme' goes with optimizer_state = 'nvme' and one micro-batch: sums of"
                " several are made in host memory; make it 'host'"
            )
        work = self._tiled(work)
        found = self._placement(work).needs(work)
        part = work.parameters / work.ranks
        if self.optimizer_state == "host":
            found[HOST][STATES] = part * STATE_BYTES
        else:
            found[HOST][STATES] = self.buffer_count * min(self.sub_group_size, part) * self._read_bytes
            found[DRIVES][STATES] = part * STATE_BYTES
        if self.gradients == "host":
            found[HOST][GRADIENT] = part * FP32 * (1.0 + OVERFLOW)
        else:
            found[HOST][GRADIENT] = ON_THEIR_WAY * work.largest / work.ranks * FP32
            found[DRIVES][GRADIENT] = part * FP32
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        needs = self.needs(work, machine)
        work = self._tiled(work)
        writer = StepWriter(work, machine)
        states = TIERS[self.optimizer_state]
        writer.hold(states, needs.by_tier[states][STATES], STATES)
        for tier in (HOST, DRIVES):
            writer.hold(tier, needs.by_tier[tier].get(GRADIENT, 0.0), GRADIENT)
        arrived: list[int] = []

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            layer = work.layers[index]
            size, part = layer.parameters * WEIGHT_BYTES, work.part(layer)
            name = f"{layer.name}, micro-batch {micro_batch}"
            writer.take(backward, GPU, size, GRADIENT, buffer=GRADIENTS)
            copy = writer.gradient_out(layer, backward, name)
            writer.give(copy, GPU, size, GRADIENT, buffer=GRADIENTS)
            last = writer.widen(part, name, [copy])
            if self.gradients == "nvme":
                last = writer.write(part * FP32, f"gradients {name}", [last])
            arrived.append(last)

        Passes(writer, self._placement(work), gradients, needs).write()
        part = work.parameters / work.ranks
        group = min(self.sub_group_size, part)
        update = Update(writer, states, TIERS[self.parameters], self.buffer_count, group, self.gradients == "nvme")
        for index, one in enumerate(pieces_of(part, group)):
            update.piece(one, f"subgroup {index}", arrived)
        return writer.finish()

    @property
    def _read_bytes(self) -> float:
        """Of a parameter, from drives for its update."""
        return STATE_BYTES + (FP32 if self.gradients == "nvme" else 0.0)

    def _placement(self, work: OffloadWork) -> Placement:
        live = self.max_live_parameters * WEIGHT_BYTES
        return kept(work, TIERS[self.parameters], on_host=self.activations == "host", live_bytes=live)

    def _tiled(self, work: OffloadWork) -> OffloadWork:
        """Layers cut in so many tiles, which run one after another: each fetches, and holds, as much less."""
        if self.tiles == 1:
            return work
        return replace(work, layers=tuple(tile for layer in work.layers for tile in self._cut(layer)))

    def _cut(self, layer: LayerWork) -> list[LayerWork]:
        """Its tiles; the first has what comes into the layer."""
        count = self.tiles
        return [
            replace(
                layer,
                name=f"{layer.name} tile {tile}",
                parameters=layer.parameters / count,
                forward_s=layer.forward_s / count,
                backward_s=layer.backward_s / count,
                recompute_s=layer.recompute_s / count,
                kept_bytes=0.0 if tile else layer.kept_bytes,
                working_bytes=layer.working_bytes / count,
                products=(),
            )
            for tile in range(count)
        ]
