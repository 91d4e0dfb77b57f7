"""What an engine draws under a steady load, from the prices of its steps: a point of an energy-per-load profile.

Requests of mean lengths come at a rate. Each brings steps with parts of its prompt, and is in the batch for as many
steps as it has tokens to come (Little's law); between steps with prompts, steps only decode:

    prompts' share of time  = rate x steps a prompt x seconds of such a step
    sequences               = rate x output tokens / steps a second
    share without any       = exp(-sequences)   (as with Poisson arrivals)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp
from typing import Protocol

from policies.power.governor import StepProfile

ROUNDS = 60  # of the fixed point, at most
CLOSE = 2e-3  # of the sequences, at which it is found


class EngineProfile(StepProfile, Protocol):
    """An engine of one tensor-parallel size: what its steps take and draw."""

    @property
    def gpus(self) -> int:
        """Tensor-parallel size."""
        ...

    @property
    def kv_tokens(self) -> int:
        """KV tokens that its memory holds."""
        ...

    def step_j(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Joules of all its GPUs in a step as `step_s` has it."""
        ...

    def awake_w(self, mhz: float) -> float:
        """Watts of all its GPUs without work."""
        ...


@dataclass(frozen=True, slots=True)
class MeanLoad:
    """Of one engine."""

    rate_per_s: float
    prompt_tokens: float
    output_tokens: float

    @property
    def context_tokens(self) -> float:
        """KV tokens of a sequence, on average while it is decoded."""
        return self.prompt_tokens + 0.5 * self.output_tokens


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What becomes of it."""

    sequences: int  # that decode, rounded up
    context_tokens: int  # theirs
    watts: float  # of all GPUs of the engine, on average


def steady_state(
    profile: EngineProfile, mhz: float, load: MeanLoad, step_tokens: int, max_num_seqs: int
) -> SteadyState | None:
    """Of an engine at a clock; None where the load is more than it sustains, or than its memory holds.

    step_tokens: the most that a step computes.
    """
    if load.rate_per_s == 0.0:
        return SteadyState(0, 0, profile.awake_w(mhz))
    each, sequences = load.context_tokens, 0.0
    for _ in range(ROUNDS):
        decoding = max(1, ceil(sequences))
        context = ceil(decoding * each)
        if decoding > max_num_seqs or context > profile.kv_tokens:
            return None
        room = max(1, step_tokens - decoding)
        parts = ceil(load.prompt_tokens / room)
        tokens = ceil(load.prompt_tokens / parts)
        mixed_s = profile.step_s(mhz, tokens, decoding, context)
        plain_s = profile.step_s(mhz, 0, decoding, context)
        prompts = load.rate_per_s * parts * mixed_s
        if prompts >= 1.0:
            return None
        before = sequences
        sequences = load.rate_per_s * load.output_tokens / (load.rate_per_s * parts + (1.0 - prompts) / plain_s)
        if abs(sequences - before) <= CLOSE * sequences:
            break
    busy = max(prompts, 1.0 - exp(-sequences))
    watts = (
        load.rate_per_s * parts * profile.step_j(mhz, tokens, decoding, context)
        + (busy - prompts) / plain_s * profile.step_j(mhz, 0, decoding, context)
        + (1.0 - busy) * profile.awake_w(mhz)
    )
    return SteadyState(decoding, context, watts)
