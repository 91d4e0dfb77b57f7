"""Conversations of several turns: each turn's prompt is all that was said before, and shares its cached prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.generators import check
from workloads.generators.arrivals import Arrivals
from workloads.generators.lengths import Lengths
from workloads.randomness import stream
from workloads.request import FloatArray, IntArray, RequestTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions that start by `arrivals`; turn k+1 comes a think time and the answer's own time after turn k.

    Turns arrive in an open loop: `answer_s_per_token` (assumed, s) stands for the time the service takes to answer.
    Prompts begin with one of `system_prompts` texts of `system_prompt_tokens`; a session ends early where its context
    would pass `max_context_tokens`. Every `prefix_block_tokens` tokens of prompt, full blocks only, have one hash.
    """

    arrivals: Arrivals
    turns: Lengths
    prompt_tokens: Lengths
    output_tokens: Lengths
    think_time_mean_s: float = 30.0
    think_time_cv: float = 1.0
    answer_s_per_token: float = 0.03
    system_prompt_tokens: int = 0
    system_prompts: int = 1
    max_context_tokens: int = 131_072
    prefix_block_tokens: int = 16

    def __post_init__(self) -> None:
        check.number("think_time_mean_s", self.think_time_mean_s, least=0)
        check.number("think_time_cv", self.think_time_cv, above=0)
        check.number("answer_s_per_token", self.answer_s_per_token, least=0)
        check.whole("system_prompt_tokens", self.system_prompt_tokens, least=0)
        check.whole("system_prompts", self.system_prompts)
        check.whole("max_context_tokens", self.max_context_tokens, least=self.system_prompt_tokens + 2)
        check.whole("prefix_block_tokens", self.prefix_block_tokens)

    def generate(self, seed: int, *, duration_s: float | None = None, num_requests: int | None = None) -> RequestTable:
        """Draw the turns before `duration_s`, at most `num_requests` in all."""
        start = self.arrivals.times(stream(seed, "arrivals"), duration_s=duration_s, num_requests=num_requests)
        check.some(start.size, duration_s)
        turns = self.turns.at(stream(seed, "sessions/turns").random(start.size))
        check.affordable(float(turns.sum()))
        session = np.repeat(np.arange(start.size), turns)
        first = np.repeat(np.cumsum(turns) - turns, turns)  # where each turn's session begins
        new = self.prompt_tokens.at(stream(seed, "prompt_tokens").random(session.size))
        answer = self.output_tokens.at(stream(seed, "output_tokens").random(session.size))
        think = self._think_times(seed, session.size)
        prompt = self.system_prompt_tokens + _running(new + answer, first).astype(np.int64) - answer
        arrival = np.repeat(start, turns) + _running(think + self.answer_s_per_token * answer, first)
        arrival = np.maximum(arrival - think - self.answer_s_per_token * answer, np.repeat(start, turns))
        keep = prompt + answer <= self.max_context_tokens  # context only grows: a session ends at the first that fails
        if duration_s is not None:
            keep &= arrival < duration_s
        kept = np.flatnonzero(keep)
        kept = kept[np.argsort(arrival[kept], kind="stable")][:num_requests]
        system = stream(seed, "sessions/system").integers(0, self.system_prompts, start.size)
        return RequestTable.build(
            source="sessions",
            arrival_s=arrival[kept],
            prompt_tokens=prompt[kept],
            output_tokens=answer[kept],
            session=session[kept],
            prefix_hashes=self._hashes(prompt[kept], session[kept], system),
            prefix_block_tokens=self.prefix_block_tokens,
        )

    def _think_times(self, seed: int, count: int) -> FloatArray:
        shape = 1.0 / self.think_time_cv**2
        return stream(seed, "sessions/think").gamma(shape, self.think_time_mean_s / shape, count)

    def _hashes(self, prompt: IntArray, session: IntArray, system: IntArray) -> list[tuple[int, ...]]:
        """Block names: even for the shared system prompts, odd for what belongs to one session."""
        shared = self.system_prompt_tokens // self.prefix_block_tokens
        width = self.max_context_tokens // self.prefix_block_tokens + 1
        hashes = []
        for tokens, s in zip(prompt.tolist(), session.tolist(), strict=True):
            blocks = tokens // self.prefix_block_tokens
            mine = min(blocks, shared)
            common, own = 2 * width * int(system[s]), 2 * width * s + 1
            opening = range(common, common + 2 * mine, 2)
            hashes.append((*opening, *range(own + 2 * mine, own + 2 * blocks, 2)))
        return hashes


def _running(values: FloatArray | IntArray, first: IntArray) -> FloatArray:
    """Sums from each session's first turn to each turn, itself included."""
    sums = np.cumsum(values)
    return np.asarray(sums - (sums - values)[first])
