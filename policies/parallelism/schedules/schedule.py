"""A pipeline schedule: in what order each device runs the passes of its micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.meeting import Meeting

FORWARD = "forward"
BACKWARD = "backward"  # both halves at once
BACKWARD_INPUT = "backward_input"  # gradients of the activations, which the stage before waits for
BACKWARD_WEIGHT = "backward_weight"  # gradients of the weights, for which nobody waits


class Slot(NamedTuple):
    """One pass of one micro-batch through one stage."""

    work: str  # FORWARD, BACKWARD, or BACKWARD_INPUT and BACKWARD_WEIGHT where a schedule splits the backward
    micro_batch: int
    stage: int  # in the model's order, from 0 (the embedding's) to the one with the loss


Programs = tuple[tuple[Slot, ...], ...]  # of each device, its slots in the order it runs them


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTimes:
    """Seconds and bytes of a pass of one micro-batch; columns have an entry a stage."""

    forward_s: tuple[float, ...]
    backward_input_s: tuple[float, ...]
    backward_weight_s: tuple[float, ...]
    activation_bytes: tuple[float, ...]  # held from the start of the forward
    weight_input_bytes: tuple[float, ...]  # the part of it that stays until the weights' gradients are done
    send_s: float = 0.0  # of activations, or of their gradients, to a neighbouring device
    meetings_s: tuple[tuple[str, float], ...] = ()  # kind, and what all devices then exchange; none: nothing
    sends_s: tuple[float, ...] = ()  # to each stage from the one before, or back, where that differs; else send_s

    @classmethod
    def uniform(
        cls,
        stages: int,
        *,
        forward_s: float = 1.0,
        backward_input_s: float = 1.0,
        backward_weight_s: float = 1.0,
        send_s: float = 0.0,
        activation_bytes: float = 1.0,
        weight_input_bytes: float | None = None,
    ) -> SlotTimes:
        """The same for every stage; all of an activation stays to the end where `weight_input_bytes` is None."""
        kept = activation_bytes if weight_input_bytes is None else weight_input_bytes
        return cls(
            forward_s=(forward_s,) * stages,
            backward_input_s=(backward_input_s,) * stages,
            backward_weight_s=(backward_weight_s,) * stages,
            activation_bytes=(activation_bytes,) * stages,
            weight_input_bytes=(kept,) * stages,
            send_s=send_s,
        )

    def meeting_s(self, kind: str) -> float:
        """Seconds of what all devices exchange in a meeting of such a kind."""
        return dict(self.meetings_s).get(kind, 0.0)

    def hop_s(self, stage: int) -> float:
        """Seconds of a send between a stage and the one before it, on different devices."""
        return self.sends_s[stage] if self.sends_s else self.send_s

    def columns_s(self) -> dict[str, tuple[float, ...]]:
        """Seconds a stage, by what a slot does."""
        both = tuple(a + b for a, b in zip(self.backward_input_s, self.backward_weight_s, strict=True))
        return {
            FORWARD: self.forward_s,
            BACKWARD: both,
            BACKWARD_INPUT: self.backward_input_s,
            BACKWARD_WEIGHT: self.backward_weight_s,
        }


class PipelineSchedule:
    """Orders the slots of every device; subclasses are frozen dataclasses and say how."""

    @property
    def chunks(self) -> int:
        """Model chunks a device holds (Megatron-LM's virtual pipeline size)."""
        return 1

    @property
    def copies(self) -> int:
        """Devices that hold each stage."""
        return 1

    @property
    def splits_backward(self) -> bool:
        """Are some backward passes in two halves, of which only the first is waited for?"""
        return False

    @property
    def post_validates(self) -> bool:
        """Does each device update its weights at once, and undo that where the gradients' norm asks for it? A step then
        need not end everywhere at the same moment (Qi et al., arXiv 2401.10241, section 4).
        """
        return False

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError, beginning with the key `where`, if the schedule cannot run so."""
        if devices < 1 or micro_batches < 1:
            raise ImpossibleError(
                f"{where}: a pipeline needs a device and a micro-batch; got {devices} and {micro_batches}"
            )

    def stages(self, devices: int) -> int:
        """Stages that the model's layers are split over."""
        return devices * self.chunks

    def device_of(self, stage: int, devices: int, micro_batch: int = 0) -> int:
        """Who runs a stage: chunk after chunk, each over all devices in turn."""
        return stage % devices

    def stages_on(self, device: int, devices: int) -> tuple[int, ...]:
        """Stages whose weights a device holds, in the model's order."""
        return tuple(stage for stage in range(self.stages(devices)) if self.device_of(stage, devices) == device)

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """A device's slots in the order it runs them; `times` matters only to schedules that plan with it."""
        raise NotImplementedError

    @property
    def divides_vocabulary(self) -> bool:
        """Has each device a part of the output layer, as one more stage after those of the layers?"""
        return False

    def all_stages(self, devices: int) -> int:
        """Those of the layers, and those after them."""
        return self.stages(devices) + (devices if self.divides_vocabulary else 0)

    def meetings(self, programs: Programs) -> list[Meeting]:
        """Where all devices wait for one another."""
        return []

    def joined(self, programs: Programs) -> frozenset[Slot]:
        """Slots that run interleaved with the one after them: both start together, and both end together."""
        return frozenset()
