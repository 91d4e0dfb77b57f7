"""How the experts of a layer are spread over ranks, and how rows reach them."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.models.architecture import MoeMlp


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertShare:
    """One rank's share of a layer's experts."""

    ep: int = 1  # expert-parallel ranks, over which the experts are spread
    etp: int = 1  # ranks that share each expert's matrices
    servers: int = 1  # in which the expert-parallel ranks lie
    once_per_server: bool = False  # a token's row leaves for a server once, and goes once to each rank there (DeepEP)
    fp8_dispatch: bool = False  # rows leave in fp8, come back in 16 bits; backward their gradients likewise

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
