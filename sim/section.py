"""What every section of a scenario is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Immutable; numbers must be numbers; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _one_line(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"{name!r} is no name; give one line of printable text")
    return name


RunName = Annotated[
    str, Field(min_length=1, max_length=200, description="what reports call the run"), AfterValidator(_one_line)
]


class NamedScenario(Section):
    """What every scenario says of itself; a kind of its own has a name of its own by default."""

    name: RunName = "scenario"
    seed: int = Field(default=0, ge=0, description="of everything drawn by chance")


class PolicyChoice(BaseModel):
    """`{ name = "...", ... }`: a policy of a registry and its keys."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def keys(self) -> dict[str, Any]:
        """Every key but the name."""
        return dict(self.model_extra or {})
