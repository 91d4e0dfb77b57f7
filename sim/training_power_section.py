"""[power] of a training scenario: clock and limit of its GPUs, and who smooths what they draw."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from sim.power_section import PowerSection
from sim.section import PolicyChoice, Section


class TrainingPowerSection(Section):
    """[power]: absent, GPUs run as fast as their data sheet's power limit lets them, and nobody smooths their power."""

    clock_mhz: float | None = Field(default=None, gt=0, description="core clock that GPUs are locked at; absent: boost")
    gpu_power_limit_w: float | None = Field(
        default=None, gt=0, description="watts of a GPU, which lowers its clock to keep them; absent: its data sheet's"
    )
    cpu_share: float = Field(
        default=PowerSection.model_fields["cpu_share"].default,
        ge=0,
        le=1,
        description="of what the servers' CPUs can do, in use while they train",
    )
    smoothing: PolicyChoice = Field(
        default=PolicyChoice(name="none"), description="who keeps the power from swinging within a step"
    )

    stage_clocks: PolicyChoice | None = Field(
        default=None, description="who chooses a clock for each pass of a pipeline; absent: all run as fast as they may"
    )

    @field_validator("smoothing", "stage_clocks", mode="before")
    @classmethod
    def _by_name(cls, choice: Any) -> Any:
        return {"name": choice} if isinstance(choice, str) else choice
