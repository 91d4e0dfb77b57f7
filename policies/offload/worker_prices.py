"""What policies that load by need ask of prices: parts cut to experts and neurons, on either worker."""

from __future__ import annotations

from typing import Protocol

from policies.offload.block_plan import Part, Prices
from policies.offload.expert_plan import Worker


class WorkerPrices(Prices, Protocol):
    """Seconds of parts cut smaller, on either worker."""

    def expert_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of one expert."""

    def router_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of a norm and the router."""

    def shared_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of what all tokens visit beside experts."""

    def cpu_part_s(self, part: Part, sequences: int, new_tokens: int, context_tokens: int) -> float:
        """Of a part without experts on the CPU, attention included."""

    def chunks_s(self, size_bytes: float, chunk_bytes: float, depth: int) -> float:
        """Of reading from drives in pieces of so many bytes, so many of them under way at once."""
