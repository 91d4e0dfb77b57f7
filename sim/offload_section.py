"""[offload]: what of a training lives below the GPUs' memory, and what the server has there."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from sim.section import PolicyChoice, Section


class OffloadSection(Section):
    """[offload]: absent, everything lives in GPU memory."""

    policy: PolicyChoice = Field(description="which tier holds what, and what moves when")
    drives: int | None = Field(
        default=None, ge=0, le=1000, description="drives of each server; absent: as the node's file says"
    )
    host_memory_bytes: float | None = Field(
        default=None, ge=1e9, le=1e15, description="of each server; absent: as the node's file says"
    )
    cpu_adam_parameters_per_s: float | None = Field(
        default=None, ge=1e6, le=1e13, description="that one process updates; absent: as known of the CPU, or of others"
    )

    @field_validator("policy", mode="before")
    @classmethod
    def _by_name(cls, choice: Any) -> Any:
        return {"name": choice} if isinstance(choice, str) else choice
