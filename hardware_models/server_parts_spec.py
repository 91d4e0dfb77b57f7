"""What the parts of a server other than GPUs draw, where the parts' files do not say: rules with their sources."""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias

from pydantic import Field, model_validator

from hardware_models.specs import Bytes, Positive, Spec

Share: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]


class ServerPartsSpec(Spec):
    """Watts of CPUs, memory, cards, switches and board; speeds of fans; losses of power supplies."""

    cpu_idle_fraction: Share  # of the TDP, where the CPU's file has no idle_w
    dram_module_bytes: Bytes
    dram_module_idle_w: Positive
    dram_module_active_w: Positive  # at full bandwidth
    nic_w_per_byte_per_s: Positive  # of the card's bandwidth per direction, whether or not bytes move
    switch_w_per_gpu: Positive  # NVSwitch chips inside the server, over its GPUs
    board_w: Positive  # controllers, chip sets and fans' own electronics of any server
    board_w_per_gpu: Positive  # PCIe switches and retimers
    fan_fraction: Share  # watts of fans at full speed, over the most that all other parts draw
    fan_speed_still: Share  # of full speed, as the other parts' watts go to none
    fan_speed_hot: Share  # of full speed, at the most that the other parts draw
    psu_factor: Annotated[float, Field(ge=1.0, strict=True)]  # rated watts of all supplies over the server's own
    psu_load: tuple[Share, ...]  # watts given over rated ones, rising
    psu_efficiency: tuple[Share, ...]  # watts given over watts taken, at those loads
    sigma: Positive  # standard deviation of log(measured / predicted) watts at the wall, GPUs' watts known
    fitted_on: tuple[str, ...]  # servers whose watts at the wall the fans' speeds are fitted on
    sigma_unmeasured: Positive  # the same for servers not fitted_on

    @model_validator(mode="after")
    def _curve_of_losses_rises(self) -> Self:
        if len(self.psu_load) != len(self.psu_efficiency) or len(self.psu_load) < 2:
            raise ValueError("psu_load and psu_efficiency need one entry for each of the same two loads or more")
        points = list(zip(self.psu_load, self.psu_efficiency, strict=True))
        losses = [load * (1.0 / efficiency - 1.0) for load, efficiency in points]
        if sorted(set(self.psu_load)) != list(self.psu_load) or sorted(losses) != losses:
            raise ValueError("psu_load must rise, and with it the watts that are lost")
        return self
