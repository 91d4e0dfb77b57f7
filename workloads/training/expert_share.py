"""How the experts of a layer are spread over ranks, and how rows reach them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from workloads.models.architecture import MoeMlp

# Standard deviation of an expert's load over the mean load, where a loss balances them: the busiest of 64 experts had
# 1.5 to 1.7 times the mean (as remembered of arXiv 2408.15664, table 2), which lies 2.4 deviations out.
LOAD_SIGMA = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPasses:
    """What the software does for experts beside their products, apart or fused."""

    fused_router: bool = True  # scores to weights and maps of rows in a few kernels, not an operator at a time
    fused_maps: bool = True  # and of the rows that arrive; else by indexing, whose sizes the host waits for
    counts_on_host: bool = False  # the host waits for rows of each expert before it launches their products
    padded_rows: bool = False  # where products are in fp8, rows are copied to a multiple of 16 an expert, and back
    turned_apart: bool = False  # each expert's rows are turned to fp8 by kernels of their own
    bias_apart: bool = False  # biases of experts' outputs, times tokens' weights, are added an expert at a time in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertShare:
    """One rank's share of a layer's experts."""

    ep: int = 1  # expert-parallel ranks, over which the experts are spread
    etp: int = 1  # ranks that share each expert's matrices
    servers: int = 1  # in which the expert-parallel ranks lie
    once_per_server: bool = False  # a token's row leaves for a server once, and goes once to each rank there (DeepEP)
    fp8_dispatch: bool = False  # rows leave in fp8, come back in 16 bits; backward their gradients likewise
    passes: ExpertPasses = field(default_factory=ExpertPasses)
    busiest: float = 1.0  # rows of the busiest rank over those of all on average: the others wait for it

    def visited_servers(self, spec: MoeMlp) -> float:
        """Servers that a token's experts lie in, in expectation over balanced routing.

        Of C candidates that k experts are drawn from, C (1 - (1 - 1/C)^k); routing limited to some groups of experts
        (DeepSeek-V3, arXiv 2412.19437, section 2.1.2) leaves fewer candidates.
        """
        candidates = float(self.servers)
        if spec.groups > spec.groups_per_token:
            if self.servers >= spec.groups:
                candidates = spec.groups_per_token * self.servers / spec.groups
            else:
                candidates = _distinct(self.servers, spec.groups_per_token)
        return _distinct(candidates, spec.top_k)

    def visited_ranks(self, spec: MoeMlp) -> float:
        """Ranks that a token's experts lie on, in expectation over balanced routing: as many in each visited server."""
        servers = self.visited_servers(spec)
        if spec.groups > spec.groups_per_token:
            candidates = self.ep * min(1.0, spec.groups_per_token / spec.groups)
        else:
            candidates = float(self.ep)
        return max(servers, _distinct(max(1.0, candidates), spec.top_k))


def _distinct(candidates: float, draws: int) -> float:
    """Expected number of different ones among so many draws."""
    return candidates * (1.0 - (1.0 - 1.0 / candidates) ** draws)


def busiest_of_random(spec: MoeMlp, tokens: float, ep: int) -> float:
    """Rows of the busiest of `ep` ranks over the mean, in expectation, where each rank's `tokens` go to experts at
    random: a token's k experts are drawn without return.
    """
    share, others = 1.0 / ep, (spec.experts - spec.top_k) / max(1, spec.experts - 1)
    deviation = math.sqrt(tokens * spec.top_k * (1.0 - share) * others)
    return 1.0 + _largest(ep) * deviation / (tokens * spec.top_k)


def busiest_of_learned(spec: MoeMlp, ep: int) -> float:
    """The same, of experts whose loads differ as a balancing loss leaves them, those of a rank by chance."""
    return 1.0 + _largest(ep) * LOAD_SIGMA / math.sqrt(spec.experts / ep)


def _largest(count: int) -> float:
    """Expectation of the largest of so many standard normal numbers (G. Blom, "Statistical Estimates and Transformed
    Beta-Variables", 1958).
    """
    return 0.0 if count == 1 else NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
