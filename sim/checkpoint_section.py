"""[checkpoint]: how a training saves its states, how often, and where to."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from sim.section import PolicyChoice, Section


class CheckpointSection(Section):
    """[checkpoint]: absent, nothing is saved."""

    policy: PolicyChoice = Field(description="what is copied when, and what the training waits for")
    every: int = Field(default=1, ge=1, le=1_000_000, description="steps between checkpoints")
    count: int = Field(default=5, ge=1, le=100, description="checkpoints that are simulated, from an empty buffer on")
    node_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e15, description="that a server writes to storage; absent: to its own drives"
    )
    total_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e15, description="that all servers write together; absent: no limit"
    )

    @field_validator("policy", mode="before")
    @classmethod
    def _by_name(cls, choice: Any) -> Any:
        return {"name": choice} if isinstance(choice, str) else choice
