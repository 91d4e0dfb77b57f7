"""One stream of independent requests: an arrival process and two laws of length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware_models.errors import FleetcastError
from workloads.generators import check
from workloads.generators.arrivals import Arrivals
from workloads.generators.joint import draw_lengths
from workloads.generators.lengths import Lengths
from workloads.randomness import stream
from workloads.request import FloatArray, IntArray, RequestTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Requests by `arrivals`, with lengths by `prompt_tokens` and `output_tokens`, tied by `rank_correlation`.

    Alternatively `total_tokens` is drawn and split by `prompt_to_output_ratio`, as in SARATHI's experiments.
    """

    arrivals: Arrivals
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    rank_correlation: float = 0.0
    total_tokens: Lengths | None = None
    prompt_to_output_ratio: float | None = None

    def __post_init__(self) -> None:
        check.number("rank_correlation", self.rank_correlation, least=-1, most=1)
        apart = self.prompt_tokens is not None and self.output_tokens is not None
        split = self.total_tokens is not None and self.prompt_to_output_ratio is not None
        given = (self.prompt_tokens, self.output_tokens, self.total_tokens, self.prompt_to_output_ratio)
        if apart == split or sum(value is not None for value in given) != 2:
            raise FleetcastError(
                "synthetic: give either prompt_tokens and output_tokens, or total_tokens and prompt_to_output_ratio"
            )
        if split:
            check.number("prompt_to_output_ratio", self.prompt_to_output_ratio, above=0)

    def generate(self, seed: int, *, duration_s: float | None = None, num_requests: int | None = None) -> RequestTable:
        """Draw the requests before `duration_s`, at most `num_requests`."""
        rng = stream(seed, "arrivals")
        arrival = self.arrivals.times(rng, duration_s=duration_s, num_requests=num_requests)
        check.some(arrival.size, duration_s)
        prompt, output = self._lengths(seed, arrival)
        return RequestTable.build(source="synthetic", arrival_s=arrival, prompt_tokens=prompt, output_tokens=output)

    def _lengths(self, seed: int, arrival: FloatArray) -> tuple[IntArray, IntArray]:
        if self.prompt_tokens is not None and self.output_tokens is not None:
            laws = (self.prompt_tokens, self.output_tokens)
            return draw_lengths(seed, "", arrival.size, laws, self.rank_correlation)
        assert self.total_tokens is not None
        assert self.prompt_to_output_ratio is not None
        total = self.total_tokens.at(stream(seed, "prompt_tokens").random(arrival.size))
        share = self.prompt_to_output_ratio / (1 + self.prompt_to_output_ratio)
        prompt = np.maximum(np.rint(total * share).astype(np.int64), 1)
        return prompt, np.maximum(total - prompt, 1)
