"""What became of one way to offload: how fast, or why it cannot run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hardware_models.errors import FleetcastError
from policies.offload import TierError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.section import PolicyChoice
from sim.training_scenario import TrainingScenario

OffloadScenario = TrainingScenario | OffloadedInferenceScenario


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy with its keys, and how much of the batch a GPU takes at once; recompute: "" where it has no meaning."""

    policy: str
    keys: tuple[tuple[str, Any], ...] = ()
    recompute: str = ""

    @property
    def words(self) -> str:
        """The keys, for a table."""
        parts = [f"{key} = {_value(value)}" for key, value in self.keys]
        return ", ".join([*parts, *([f"recompute = {self.recompute}"] if self.recompute else [])])

    @property
    def choice(self) -> PolicyChoice:
        """As a scenario has it."""
        return PolicyChoice(name=self.policy, **dict(self.keys))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A setting that runs, at the batch at which it is fastest."""

    setting: Setting
    batch: int  # sequences at once: the micro-batch, or a block
    seconds: float  # of a step, or of a sequence
    scenario: OffloadScenario
    again: tuple[Setting, ...]  # what is tried of it on other machines


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that cannot run; tier and missing_bytes: "" and None where it is no matter of room."""

    setting: Setting
    reason: str
    tier: str = ""
    missing_bytes: float | None = None

    @classmethod
    def of(cls, setting: Setting, error: FleetcastError) -> Refusal:
        """Why."""
        if isinstance(error, TierError):
            return cls(setting, str(error), error.tier, error.missing_bytes)
        return cls(setting, str(error))


@dataclass(slots=True)
class Tried:
    """All that was tried on one machine."""

    outcomes: list[Outcome] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    simulations: int = 0

    @property
    def best(self) -> Outcome | None:
        """The fastest."""
        return min(self.outcomes, key=lambda one: one.seconds, default=None)

    def best_of(self, policy: str) -> Outcome | None:
        """The fastest of a policy's settings."""
        own = [one for one in self.outcomes if one.setting.policy == policy]
        return min(own, key=lambda one: one.seconds, default=None)

    def nearest(self, policy: str) -> Refusal:
        """Of a policy that nowhere runs, the setting that lacks least."""
        own = [one for one in self.refusals if one.setting.policy == policy]
        return min(own, key=lambda one: float("inf") if one.missing_bytes is None else one.missing_bytes)


def distinct(settings: list[Setting]) -> list[Setting]:
    """Each once, in order; keys may hold lists."""
    return [one for place, one in enumerate(settings) if one not in settings[:place]]


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"
