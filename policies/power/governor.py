"""The types that governors of a replica's clock speak: what they see of its load, and which clock they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StepProfile(Protocol):
    """What a step takes, from a table."""

    def step_s(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Seconds of a step that computes so many tokens of prompts and one token for each sequence.

        context_tokens: KV that the sequences hold together.
        """
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """What users were promised; None: nothing."""

    ttft_s: float | None
    tbt_s: float | None
    percentile: float  # of requests, for which it holds


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A replica at an instant, and what came to it lately."""

    sequences: int  # that have KV, or wait for it
    context_tokens: int  # KV of all of these once their prompts are computed
    prompt_tokens: int  # still to be computed
    came: Sequence[tuple[float, int]]  # prompts of late: when, and how many tokens
    step_tokens: int  # the most that a step computes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockGovernor:
    """Which clock a replica's GPUs are to run at."""

    def choose(
        self, load: ReplicaLoad, profile: StepProfile, clocks_mhz: Sequence[float], objective: Objective
    ) -> float:
        """One of `clocks_mhz`, which rise."""
        raise NotImplementedError
