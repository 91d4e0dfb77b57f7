"""The lowest clock at which users are still served in time, for the present load (as DynamoLLM's instances choose it).

DynamoLLM (Stojkovic et al., arXiv 2408.00741) looks it up by load in a profile that was measured at every clock; here
the profile is of steps, and the load is what came of late. A clock keeps the promise where

    a step with as many prompts as ever came together, beside all sequences, takes no longer than the limit on gaps,
    prompts of late, had they queued at this clock (Lindley's recursion), would have been computed within the limit to
    the first token, but for as many as the percentile lets go, and those that wait now will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from hardware_models.errors import FleetcastError
from policies.power.governor import ClockGovernor, Objective, ReplicaLoad, StepProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class SloClock(ClockGovernor):
    """margin_fraction: of each limit that is kept in reserve, for what the next seconds bring."""

    margin_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin_fraction < 1.0:
            raise FleetcastError(f"margin_fraction = {self.margin_fraction:g}: give a share from 0 to less than 1")

    def choose(
        self, load: ReplicaLoad, profile: StepProfile, clocks_mhz: Sequence[float], objective: Objective
    ) -> float:
        """The lowest that keeps the promise; the highest where none does."""
        return next((mhz for mhz in clocks_mhz if self.keeps(load, profile, mhz, objective)), clocks_mhz[-1])

    def keeps(self, load: ReplicaLoad, profile: StepProfile, mhz: float, objective: Objective) -> bool:
        """Does a clock keep the promise?"""
        queue = _Queue(load, profile, mhz)
        waits_s = [queue.add(at_s, tokens) for at_s, tokens in load.came]
        left = 1.0 - self.margin_fraction
        if objective.ttft_s is not None:
            limit_s = left * objective.ttft_s
            late = sum(wait_s > limit_s for wait_s in waits_s)
            if late > len(waits_s) * (1.0 - objective.percentile / 100.0):
                return False
            if queue.step_under_way_s + load.prompt_tokens * queue.s_per_token > limit_s:
                return False
        return objective.tbt_s is None or queue.longest_step_s(load.prompt_tokens) <= left * objective.tbt_s


class _Queue:
    """Prompts that queue for their steps, beside sequences that decode."""

    def __init__(self, load: ReplicaLoad, profile: StepProfile, mhz: float) -> None:
        self._load, self._profile, self._mhz = load, profile, mhz
        self._room = max(1, load.step_tokens - load.sequences)  # for prompts in a step
        self._full_s = self._step_s(self._room)
        self.step_under_way_s = self._step_s(0)
        self.s_per_token = self._full_s / self._room
        self._backlog_s, self._last_s, self._most_tokens = 0.0, 0.0, 0

    def add(self, at_s: float, tokens: int) -> float:
        """A prompt comes; how long until it is computed, at most a step under way included."""
        backlog_s = max(0.0, self._backlog_s - (at_s - self._last_s))
        together = tokens + ceil(backlog_s / self.s_per_token)
        self._most_tokens = max(self._most_tokens, together)
        if backlog_s > 0.0:
            backlog_s += tokens * self.s_per_token
        else:
            full, rest = divmod(tokens, self._room)
            backlog_s = full * self._full_s + (self._step_s(rest) if rest else 0.0)
        self._backlog_s, self._last_s = backlog_s, at_s
        return self.step_under_way_s + backlog_s

    def longest_step_s(self, waiting_tokens: int) -> float:
        """With the most prompts that were there together."""
        return self._step_s(min(self._room, max(self._most_tokens, waiting_tokens)))

    def _step_s(self, prompt_tokens: int) -> float:
        return self._profile.step_s(self._mhz, prompt_tokens, self._load.sequences, self._load.context_tokens)
