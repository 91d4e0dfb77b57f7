"""Which experts a router picks, token after token: some more often, alike from token to token and layer to layer.

Every expert of every layer has a score for each token, score = skew x popularity + topic x preference + state: the
popularity is the model's, the preference a sequence's, the state a token's. All are standard normal; states follow each
other over the tokens of a sequence with correlation `locality`; preferences and states over layers, expert by expert in
a fixed order of each layer, with correlation `affinity`. A token visits the `top_k` highest. A later layer's gate,
asked early, sees scores that have drifted, by `gate_similarity` for each layer between.

The defaults are assumed, but for what they say together of Mixtral-8x7B: the next token's first choice is the same for
about 25 % of tokens, and one of its two for 64 % (arXiv 2401.04088, table 5, as remembered: 25 to 28 % and 62 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from workloads.randomness import stream

Scores = NDArray[np.float64]
Deviation = Annotated[float, Field(ge=0.0, le=10.0)]
Correlation = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationLaw:
    """How activation goes; all numbers are of the scores above."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    skew: Deviation = 0.2
    topic: Deviation = 0.5
    locality: Correlation = 0.1
    affinity: Correlation = 0.5
    gate_similarity: Correlation = 0.9


class ExpertActivation:
    """A run's scores, drawn from named streams of a seed: the same seed gives the same tokens."""

    def __init__(self, law: ActivationLaw, layers: int, experts: int, sequences: int, seed: int) -> None:
        self.law = law
        self._draws = stream(seed, "expert states")
        self._drift = stream(seed, "gates asked early")
        popularity = stream(seed, "expert popularity")
        self.popularity = law.skew * popularity.standard_normal((layers, experts))
        self._order = [popularity.permutation(experts) for _ in range(layers)]
        self._shape = (sequences, layers, experts)
        self._preference = law.topic * self._fresh()
        self._state = self._fresh()

    def next(self, tokens: int) -> Scores:
        """Scores of the next tokens of all sequences: (sequences x tokens, layers, experts)."""
        rho = self.law.locality
        found = []
        for _ in range(tokens):
            self._state = rho * self._state + np.sqrt(1.0 - rho * rho) * self._fresh()
            found.append(self._preference + self._state)
        return self.popularity + np.concatenate(found)

    def early(self, scores: Scores, layer: int, ahead: int) -> Scores:
        """What the gate of the layer `ahead` of this one says now: (tokens, experts)."""
        kept = self.law.gate_similarity**ahead
        popularity = self.popularity[layer + ahead]
        state = scores[:, layer + ahead] - popularity
        drift = np.sqrt(1.0 + self.law.topic**2) * self._drift.standard_normal(state.shape)
        return np.asarray(popularity + kept * state + np.sqrt(1.0 - kept * kept) * drift)

    def _fresh(self) -> Scores:
        """Standard normal, each layer's correlated with that of the layer before."""
        drawn = self._draws.standard_normal(self._shape)
        a = self.law.affinity
        for layer in range(1, self._shape[1]):
            drawn[:, layer] = a * drawn[:, layer - 1][:, self._order[layer]] + np.sqrt(1.0 - a * a) * drawn[:, layer]
        return drawn


def loads(scores: Scores, top_k: int) -> dict[int, int]:
    """Tokens that visit each expert of a layer, of scores (tokens, experts); experts that nobody visits are absent."""
    chosen = np.argpartition(scores, -top_k, axis=1)[:, -top_k:]
    experts, tokens = np.unique(chosen, return_counts=True)
    return {int(expert): int(count) for expert, count in zip(experts, tokens, strict=True)}
