"""What a block costs as linear expressions of FlexGen's nine percentages: bytes of each tier, and seconds.

The seconds here are those of the released cost model (arXiv 2303.06865, section 4.3): reading prompts, all of a model
takes the longest of three: copies up after reads from drives, copies down after writes to drives, compute. A decoding
step, at the mean context, takes copies up, and then the longest of copies down, reads, writes and compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from policies.offload.block_plan import TIERS, BlockPlan, Job, Part, Prices, Route, Split, Tier

if TYPE_CHECKING:
    import pulp

KINDS = ("weights", "kv", "activations")
UNIT = 1e9  # bytes in which the programme counts
Shares: TypeAlias = dict[str, dict[Tier, Any]]  # variables of the programme, by what lies there and where
Expression: TypeAlias = Any  # linear in those


@dataclass(frozen=True, slots=True)
class Block:
    """A block size, and what is given beside it."""

    gpu_batch_size: int
    num_gpu_batches: int
    compress_weights: bool
    compress_cache: bool
    cpu_attention: bool

    def plan(self, splits: dict[str, Split]) -> BlockPlan:
        """With these shares."""
        return BlockPlan(
            weights=splits["weights"],
            kv=splits["kv"],
            activations=splits["activations"],
            gpu_batch_size=self.gpu_batch_size,
            num_gpu_batches=self.num_gpu_batches,
            compress_weights=self.compress_weights,
            compress_kv=self.compress_cache,
            cpu_attention=self.cpu_attention,
        )


class BlockCost:
    """Of one job in blocks of one size; `programme` gives its seconds, once for each cost model."""

    def __init__(self, job: Job, prices: Prices, block: Block) -> None:
        self._job, self._prices, self.block = job, prices, block
        self._batch, self._batches = block.gpu_batch_size, block.num_gpu_batches
        self.decode_steps = job.output_tokens - 1
        self._bare = block.plan({kind: Split(1.0, 0.0, 0.0) for kind in KINDS})
        self._counts = Counter((part.kind, part.shape) for part in job.parts)
        self._parts: dict[tuple[str, int], Part] = {(part.kind, part.shape): part for part in job.parts}
        self._context = job.prompt_tokens + job.output_tokens // 2  # of the mean decoding step

    def block_s(self, problem: pulp.LpProblem, shares: Shares) -> Expression:
        """Seconds of a block; adds what bounds them to the programme."""
        raise NotImplementedError

    def compute_s(self) -> float:
        """Of the prompts on the GPU, which no shares change."""
        return self._batches * self._all(lambda part: self._compute_s(part, self._job.prompt_tokens))

    def memory(self, shares: Shares) -> list[tuple[Tier, Expression]]:
        """Bytes of tiers in UNIT, at moments of which one is the fullest: what stays, and what passes through."""
        job, w, c, h = self._job, shares["weights"], shares["kv"], shares["activations"]
        token = job.kv_bytes * self._bare.kv_factor * self._bare.sequences
        stay = {
            tier: w[tier] * (job.weight_bytes * self._bare.weight_factor / UNIT)
            + c[tier] * (token * job.kv_tokens / UNIT)
            + h[tier] * (job.hidden_bytes * job.prompt_tokens * self._bare.sequences / UNIT)
            for tier in TIERS
        }
        found: list[tuple[Tier, Expression]] = [("storage", stay["storage"])]
        cache = self._batch * job.kv_tokens * max(part.kv_bytes for part in job.parts) * self._bare.kv_factor
        largest = max(part.weight_bytes for part in job.parts) * self._bare.weight_factor
        for part, following in self._pairs():
            weights = (part.weight_bytes + following.weight_bytes) * self._bare.weight_factor
            streamed = (w["host"] + w["storage"]) * (weights / UNIT)
            for tokens in (job.prompt_tokens, 1):
                workspace = self._prices.workspace_bytes(part, self._batch, tokens)
                copies = 0 if tokens > 1 else 2 if part.kv_bytes and self._batches > 1 else 1
                gpu, host = stay["gpu"] + streamed + workspace / UNIT, stay["host"] + w["storage"] * (largest / UNIT)
                host += c["storage"] * (copies * cache / UNIT)
                if not self.block.cpu_attention:
                    gpu += (c["host"] + c["storage"]) * (copies * cache / UNIT)
                found += [("gpu", gpu), ("host", host)]
        return found

    def _pairs(self) -> list[tuple[Part, Part]]:
        """A part and the one whose weights are loaded meanwhile, once for each two that do alike."""
        alike = {
            (one.kind, one.shape, other.kind, other.shape): (one, other)
            for one, other in pairwise((*self._job.parts, self._job.parts[0]))
        }
        return list(alike.values())

    def _s(self, route: Route, size_bytes: float) -> float:
        """Of many bytes, the first one's delay left out."""
        if not size_bytes or (route in ("read", "write") and not self._prices.has_drives):
            return 0.0
        return (self._prices.copy_s(route, UNIT) - self._prices.copy_s(route, 0.0)) * size_bytes / UNIT

    def _up(self, h: dict[Tier, Any], size: float) -> Expression:
        return h["host"] * self._s("h2d_pageable", size) + h["storage"] * self._s("h2d", size)

    def _down(self, h: dict[Tier, Any], size: float) -> Expression:
        return h["host"] * self._s("d2h_activation", size) + h["storage"] * self._s("d2h", size)

    def _all(self, seconds: Callable[[Part], float]) -> float:
        """Over all parts."""
        return sum(count * seconds(self._parts[key]) for key, count in self._counts.items())

    def _compute_s(self, part: Part, new_tokens: int) -> float:
        """Of one batch; prompts with their attention."""
        seconds = self._prices.linear_s(part, self._batch, new_tokens)
        if self._bare.compress_weights:
            seconds += self._prices.decompress_s(part.weight_bytes * self._bare.weight_factor)
        if new_tokens > 1 and part.kv_bytes:
            seconds += self._prices.attention_s(part, self._batch, new_tokens, new_tokens)
        return seconds

    def _attention_s(self, part: Part, context: int) -> float:
        if not part.kv_bytes:
            return 0.0
        seconds = self._prices.attention_s(part, self._batch, 1, context)
        if self._bare.compress_kv:
            cached = part.kv_bytes * self._bare.kv_factor * self._batch * context
            seconds += self._prices.decompress_s(cached)
        return seconds

    def _cpu_s(self, part: Part, context: int) -> float:
        return self._prices.cpu_attention_s(part, self._batch, context) if part.kv_bytes else 0.0


class PublishedCost(BlockCost):
    """The released cost model: all of the model at once, whatever waits for what inside."""

    def __init__(self, job: Job, prices: Prices, block: Block) -> None:
        super().__init__(job, prices, block)
        self._weights = job.weight_bytes * self._bare.weight_factor
        self._token = job.kv_bytes * self._bare.kv_factor * self._bare.sequences  # of a block's cache, a position
        self._hidden = job.hidden_bytes * (len(job.parts) - 1) * self._bare.sequences  # between parts, a position

    def block_s(self, problem: pulp.LpProblem, shares: Shares) -> Expression:
        """Prefill and decoding steps."""
        prefill, longest = (problem.add_variable(name, 0) for name in ("prefill", "longest"))
        for bound in self._prefill_bounds(shares):
            problem += prefill >= bound
        up, bounds = self._decode_bounds(shares)
        for bound in bounds:
            problem += longest >= bound
        return prefill + self.decode_steps * (up + longest)

    def _prefill_bounds(self, shares: Shares) -> list[Expression]:
        """Seconds that reading the prompts takes at least."""
        w, c, h, tokens = shares["weights"], shares["kv"], shares["activations"], self._job.prompt_tokens
        hidden, cache, s = self._hidden * tokens, self._token * tokens, self._s
        up = (w["host"] + w["storage"]) * s("h2d", self._weights) + self._up(h, hidden)
        read = w["storage"] * s("read", self._weights) + h["storage"] * s("read", hidden)
        down = c["host"] * s("d2h_cache", cache) + c["storage"] * s("d2h", cache) + self._down(h, hidden)
        write = c["storage"] * s("write", cache) + h["storage"] * s("write", hidden)
        compute = self._batches * self._all(lambda part: self._compute_s(part, tokens))
        return [up + read, down + write, compute]

    def _decode_bounds(self, shares: Shares) -> tuple[Expression, list[Expression]]:
        """Seconds of copies up in a step of mean context, and of what else it takes, each alone."""
        w, c, h, s = shares["weights"], shares["kv"], shares["activations"], self._s
        context = self._context
        cache = self._token * context
        on_cpu = self.block.cpu_attention
        up = (w["host"] + w["storage"]) * s("h2d", self._weights) + self._up(h, self._hidden)
        down = self._down(h, self._hidden)
        if not on_cpu:
            up += c["host"] * s("h2d_pageable", cache) + c["storage"] * s("h2d", cache)
            down += c["host"] * s("d2h_cache", self._token) + c["storage"] * s("d2h", self._token)
        read = w["storage"] * s("read", self._weights) + c["storage"] * s("read", cache)
        read += h["storage"] * s("read", self._hidden)
        write = c["storage"] * s("write", self._token) + h["storage"] * s("write", self._hidden)
        linear = self._batches * self._all(lambda part: self._compute_s(part, 1))
        attention = self._batches * self._all(lambda part: self._attention_s(part, context))
        if on_cpu:
            cpu = self._batches * self._all(lambda part: self._cpu_s(part, context))
            compute = linear + c["gpu"] * attention + (c["host"] + c["storage"]) * cpu
        else:
            compute = linear + attention
        return up, [down, read, write, compute]
