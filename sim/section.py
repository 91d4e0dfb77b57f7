"""What every section of a scenario is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Immutable; numbers must be numbers; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PolicyChoice(BaseModel):
    """`{ name = "...", ... }`: a policy of a registry and its keys."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def keys(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})
