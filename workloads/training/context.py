"""Attention over a sequence that context-parallel ranks share: whose blocks each computes, and what travels meanwhile.

Ring attention: arXiv 2310.01889, with each rank holding one chunk of the sequence's front and its mirror image of the
back ("zigzag", Megatron-LM and Transformer Engine), so that a causal mask leaves all ranks the same work. Ulysses:
arXiv 2309.14509. TokenRing: arXiv 2412.20501. All-gather of keys and values: Llama 3, arXiv 2407.21783, section 3.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.ops import AttentionTraining, Collective, Elementwise
from workloads.training.operator import ContextStep, TrainingOp

if TYPE_CHECKING:
    from workloads.training.cut import Cut

Steps = tuple[ContextStep, ...]
KEY = "training.context_parallel_size"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextShare:
    """One rank's share of a layer's attention: its part of the tokens, all heads that its tensor-parallel rank has."""

    cut: Cut
    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int

    @property
    def ranks(self) -> int:
        """That share a sequence."""
        return self.cut.cp

    @property
    def own(self) -> int:
        """Tokens of a sequence on a rank: two chunks."""
        return self.cut.queries

    @property
    def query_bytes(self) -> float:
        """Of a rank's queries."""
        return self._bytes(self.heads * self.qk_dim)

    @property
    def key_bytes(self) -> float:
        """Of a rank's keys and values, and as many of their gradients."""
        return self._bytes(self.kv_heads * (self.qk_dim + self.v_dim))

    @property
    def output_bytes(self) -> float:
        """Of a rank's outputs, and as many of their gradients."""
        return self._bytes(self.heads * self.v_dim)

    @property
    def row_bytes(self) -> float:
        """One fp32 a query and head: the logarithm of its sum of exponentials."""
        return float(self.cut.tokens * self.heads) * bytes_per_element("fp32")

    def block(
        self, queries: int, keys: int, *, causal: bool = False, backward: bool = False, parts: int = 1
    ) -> AttentionTraining:
        """Some queries of each sequence against some keys; of `parts` of the heads, one."""
        return AttentionTraining(
            batch=self.cut.micro_batch, queries=queries, keys=keys, heads=self.heads // parts,
            kv_heads=self.kv_heads // parts, qk_dim=self.qk_dim, v_dim=self.v_dim, dtype=self.cut.dtype, causal=causal,
            backward=backward, implementation=self.cut.attention,
        )  # fmt: skip

    def join(self, size_bytes: float) -> Elementwise:
        """Adding one block's result to what stands already: two read, one written."""
        return self.walk(size_bytes, reads=2.0)

    def walk(self, size_bytes: float, reads: float = 1.0) -> Elementwise:
        """A pass over so many bytes, written once."""
        elements = size_bytes / bytes_per_element(self.cut.dtype)
        return Elementwise(elements=elements, reads=reads, writes=1, dtype=self.cut.dtype, streaming=True)

    def exchange(self, kind: str, payload_bytes: float) -> Collective:
        """Among the ranks that share the sequence."""
        return Collective(kind=kind, payload_bytes=payload_bytes, ranks=self.ranks)

    def _bytes(self, width: int) -> float:
        return float(self.cut.tokens * width) * bytes_per_element(self.cut.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextParallel:
    """How ranks share a sequence; subclasses say which blocks they compute and what they exchange."""

    def check(self, share: ContextShare) -> None:
        """Raise ImpossibleError where this attention cannot be shared so."""
        if share.cut.attention == "standard":
            raise ImpossibleError(
                f"{KEY} = {share.ranks}: blocks are joined by sums that training.attention = 'standard' does not give;"
                " take a fused kernel such as 'flash2'"
            )

    def forward(self, share: ContextShare) -> Steps:
        """One after another."""
        raise NotImplementedError

    def backward(self, share: ContextShare) -> Steps:
        """One after another."""
        raise NotImplementedError

    def working_bytes(self, share: ContextShare) -> float:
        """Held beside a rank's own queries, keys and values while it computes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked(ContextParallel):
    """Each rank computes with queries and keys of another in turn; not `balanced`, the last rank's mask hides none."""

    balanced: bool = True

    def check(self, share: ContextShare) -> None:
        """Also that chunks are equal."""
        ContextParallel.check(self, share)
        check_chunks(share, 2 if self.balanced else 1)

    def blocks(self, share: ContextShare, step: int, *, backward: bool = False) -> tuple[tuple[TrainingOp, ...], ...]:
        """The shapes that ranks compute in a step: with their own keys first, then with those of ranks before them, or
        after them, of which half is hidden.
        """
        own, half = share.own, share.own // 2
        if step == 0:
            return ((share.block(own, own, causal=True, backward=backward),),)
        if not self.balanced:
            return ((share.block(own, own, backward=backward),),)
        return (share.block(own, half, backward=backward),), (share.block(half, own, backward=backward),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring(Chunked):
    """Keys and values travel around the ranks; those of the next step while a step computes.

    Backward the ring begins where forward ended, so that gradients of keys and values, a step behind them, end at home
    (Transformer Engine's `AttnFuncWithCPAndKVP2P`).
    """

    def forward(self, share: ContextShare) -> Steps:
        """Outputs of all steps but the first are joined to what stands."""
        return tuple(
            ContextStep(
                blocks=_then(self.blocks(share, step), share.join(share.output_bytes) if step else None),
                sends_bytes=(share.key_bytes,) if step < share.ranks - 1 else (),
            )
            for step in range(share.ranks)
        )

    def backward(self, share: ContextShare) -> Steps:
        """Gradients of queries are joined at home, those of keys and values on their way."""
        joined = share.join(share.query_bytes + share.key_bytes)
        return tuple(
            ContextStep(
                blocks=_then(self.blocks(share, step, backward=True), joined if step else None),
                sends_bytes=(share.key_bytes * ((step < share.ranks - 1) + (step > 0)),),
            )
            for step in range(share.ranks)
        )

    def working_bytes(self, share: ContextShare) -> float:
        """What arrives and what leaves, and gradients of both."""
        return 4.0 * share.key_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRing(Chunked):
    """Queries travel around the ranks, and each step's outputs straight back to whose they are, both at once.

    Its paper has no backward; here gradients of outputs travel with the queries, and theirs back, in the same way.
    """

    def forward(self, share: ContextShare) -> Steps:
        """The last outputs arrive after the last step."""
        return self._steps(share, share.query_bytes, share.output_bytes + share.row_bytes, backward=False)

    def backward(self, share: ContextShare) -> Steps:
        """With queries go outputs' gradients, their sums of exponentials, and sums of gradients times outputs."""
        there = share.query_bytes + share.output_bytes + 2.0 * share.row_bytes
        return self._steps(share, there, share.query_bytes, backward=True)

    def working_bytes(self, share: ContextShare) -> float:
        """Queries that arrive and leave, with all that goes with them backward."""
        return 2.0 * (share.query_bytes + share.output_bytes + 2.0 * share.row_bytes) + share.query_bytes

    def _steps(self, share: ContextShare, there: float, back: float, *, backward: bool) -> Steps:
        steps = []
        for step in range(share.ranks):
            out = (there,) if step < share.ranks - 1 else ()
            home = (back,) if step > 1 else ()
            joined = share.join(back) if step > 1 else None
            blocks = _then(self.blocks(share, step, backward=backward), joined)
            steps.append(ContextStep(blocks=blocks, sends_bytes=out + home))
        return (*steps, ContextStep(sends_bytes=(back,)), ContextStep(blocks=((share.join(back),),)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllGather(ContextParallel):
    """Every rank gathers all keys and values first, and again backward, where their gradients are reduce-scattered."""

    def check(self, share: ContextShare) -> None:
        """Also that chunks are equal."""
        ContextParallel.check(self, share)
        check_chunks(share, 2)

    def forward(self, share: ContextShare) -> Steps:
        """Nothing is hidden: keys and values come first."""
        return (self._gathered(share, backward=False),)

    def backward(self, share: ContextShare) -> Steps:
        """Gathers, computes, reduce-scatters."""
        scattered = share.exchange("reduce_scatter", share.ranks * share.key_bytes)
        return (self._gathered(share, backward=True), ContextStep(exchange=scattered))

    def working_bytes(self, share: ContextShare) -> float:
        """All keys and values, and their gradients."""
        return 2.0 * share.ranks * share.key_bytes

    def _gathered(self, share: ContextShare, *, backward: bool) -> ContextStep:
        chunk, chunks = share.own // 2, 2 * share.ranks

        def rank(front: int) -> tuple[TrainingOp, ...]:
            ends = (front + 1, chunks - front)
            return tuple(share.block(chunk, end * chunk, causal=True, backward=backward) for end in ends)

        gathered = share.exchange("all_gather", share.ranks * share.key_bytes)
        return ContextStep(exchange=gathered, blocks=(rank(0), rank(share.ranks - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulysses(ContextParallel):
    """Ranks exchange tokens for heads before attention, and heads for tokens after it."""

    def check(self, share: ContextShare) -> None:
        """Also that every rank gets as many heads of each kind."""
        ContextParallel.check(self, share)
        if share.heads % share.ranks or share.kv_heads % share.ranks:
            raise ImpossibleError(
                f"{KEY} = {share.ranks}: ulysses divides heads, and does not divide the {share.heads} query and"
                f" {share.kv_heads} KV heads of a tensor-parallel rank; give a divisor, or take ring"
            )

    def forward(self, share: ContextShare) -> Steps:
        """Queries, keys and values go, outputs come back; what is sent is packed, and unpacked."""
        inputs, outputs = share.query_bytes + share.key_bytes, share.output_bytes
        return (self._exchanged(share, inputs, outputs, backward=False), self._back(share, outputs))

    def backward(self, share: ContextShare) -> Steps:
        """Outputs' gradients go, those of queries, keys and values come back."""
        inputs, outputs = share.query_bytes + share.key_bytes, share.output_bytes
        return (self._exchanged(share, outputs, inputs, backward=True), self._back(share, inputs))

    def working_bytes(self, share: ContextShare) -> float:
        """What is packed."""
        return share.query_bytes + share.key_bytes + share.output_bytes

    def _exchanged(self, share: ContextShare, there: float, back: float, *, backward: bool) -> ContextStep:
        whole = share.own * share.ranks
        kernel = share.block(whole, whole, causal=True, backward=backward, parts=share.ranks)
        packed = share.walk(2.0 * (there + back))
        return ContextStep(exchange=share.exchange("all_to_all", there), blocks=((packed, kernel),))

    def _back(self, share: ContextShare, size_bytes: float) -> ContextStep:
        return ContextStep(exchange=share.exchange("all_to_all", size_bytes))


def check_chunks(share: ContextShare, each: int) -> None:
    """Raise ImpossibleError where the sequence is no multiple of so many chunks a rank."""
    chunks = each * share.ranks
    if share.cut.seq_length % chunks:
        raise ImpossibleError(
            f"training.seq_length = {share.cut.seq_length}: is not divisible into {chunks} chunks, {each} for each of"
            f" context_parallel_size = {share.ranks}; give a multiple of {chunks}"
        )


def _then(blocks: tuple[tuple[TrainingOp, ...], ...], more: TrainingOp | None) -> tuple[tuple[TrainingOp, ...], ...]:
    return blocks if more is None else tuple((*block, more) for block in blocks)


CONTEXT: dict[str, type[ContextParallel]] = {
    "ring": Ring,
    "ulysses": Ulysses,
    "token_ring": TokenRing,
    "all_gather": AllGather,
}
