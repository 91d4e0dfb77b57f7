"""Attention over a sequence, forward and backward: a fused kernel, or the chain of products and passes it replaces."""

from __future__ import annotations

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import AttentionTraining, Elementwise, Gemm
from workloads.models.architecture import AttentionSpec
from workloads.models.stages import kv_heads_per_rank
from workloads.training.context import ContextShare
from workloads.training.cut import Cut, Kernels
from workloads.training.operator import TrainingOperator

STANDARD = "standard"


def attention_core(spec: AttentionSpec, cut: Cut, kernels: Kernels) -> TrainingOperator:
    """Scores, softmax and values of one rank's heads. A sliding window spares a fused kernel work, not a chain, whose
    mask hides what was computed, nor ranks that share a sequence.
    """
    if cut.cp > 1:
        return _shared(spec, cut)
    return _chain(spec, cut, kernels) if cut.attention == STANDARD else _fused(spec, cut)


def _fused(spec: AttentionSpec, cut: Cut) -> TrainingOperator:
    """Keeps queries, keys and values, and a sum of exponentials a query and head in fp32."""
    heads, kv_heads = spec.heads // cut.tp, kv_heads_per_rank(spec, cut.tp)

    def kernel(backward: bool) -> AttentionTraining:
        return AttentionTraining(
            batch=cut.micro_batch, queries=cut.queries, keys=cut.queries, heads=heads, kv_heads=kv_heads,
            qk_dim=spec.head_dim, v_dim=spec.head_dim, causal=True, window=spec.window, dtype=cut.dtype,
            backward=backward, implementation=cut.attention,
        )  # fmt: skip

    given = cut.tokens * (heads + 2 * kv_heads) * spec.head_dim * bytes_per_element(cut.dtype)
    saved = given + cut.tokens * heads * bytes_per_element("fp32")
    return TrainingOperator(
        name="attention",
        part="attention_core",
        forward=(kernel(False),),
        backward_input=(kernel(True),),
        saved_bytes=saved,
        input_bytes=given,
    )


def _shared(spec: AttentionSpec, cut: Cut) -> TrainingOperator:
    """A rank keeps its own part of queries, keys and values, however it computes with those of others."""
    heads, kv_heads = spec.heads // cut.tp, kv_heads_per_rank(spec, cut.tp)
    share = ContextShare(cut=cut, heads=heads, kv_heads=kv_heads, qk_dim=spec.head_dim, v_dim=spec.head_dim)
    cut.context.check(share)
    given = share.query_bytes + share.key_bytes
    return TrainingOperator(
        name="attention",
        part="attention_core",
        forward_steps=cut.context.forward(share),
        backward_steps=cut.context.backward(share),
        saved_bytes=given + share.row_bytes,
        input_bytes=given,
        working_bytes=cut.context.working_bytes(share),
    )


def _chain(spec: AttentionSpec, cut: Cut, kernels: Kernels) -> TrainingOperator:
    """Keeps queries, keys, values, the softmax, and with dropout its mask and output (5 a s of Korthikanti et al.)."""
    heads, kv_heads, head = spec.heads // cut.tp, kv_heads_per_rank(spec, cut.tp), spec.head_dim
    rows, keys = float(cut.micro_batch * heads * cut.queries), cut.queries
    scores, width = rows * keys, bytes_per_element(cut.dtype)

    def product(n: int, k: int) -> Gemm:
        return Gemm(m=rows, n=n, k=k, dtype=cut.dtype, weight_dtype=cut.dtype)

    def stream(elements: float, reads: float, writes: float) -> Elementwise:
        return Elementwise(
            elements=elements, reads=reads, writes=writes, dtype=cut.dtype, flop_per_element=8.0, streaming=True
        )

    apart = 0.0  # bytes a score that the softmax keeps besides its output
    if kernels.fused_softmax and keys <= kernels.fused_softmax_keys:  # skips reading what the causal mask hides
        softmax, softmax_back = stream(scores, 0.5, 1), stream(scores, 1, 1)
    else:  # scale, mask, cast to fp32, softmax, cast back, each its own kernel; counted in 16-bit passes
        softmax, softmax_back = stream(scores, 7.5, 7), stream(scores, 9.5, 7)
        apart = bytes_per_element("fp32")
    outputs = cut.tokens * heads * head
    dropped = (stream(scores, 1, 1.5),) if cut.dropout else ()
    dropped_back = (stream(scores, 1.5, 1),) if cut.dropout else ()
    split = stream(cut.tokens * (heads + 2 * kv_heads) * head, 1, 1)  # gradients of queries, keys, values into one
    given = width * cut.tokens * (heads + 2 * kv_heads) * head
    return TrainingOperator(
        name="attention",
        part="attention_core",
        forward=(product(keys, head), softmax, *dropped, product(head, keys), stream(outputs, 1, 1)),
        backward_input=(
            stream(outputs, 1, 1),
            product(keys, head),  # of the dropped softmax
            product(head, keys),  # of the values
            *dropped_back,
            softmax_back,
            product(head, keys),  # of the queries
            product(head, keys),  # of the keys
            split,
        ),
        saved_bytes=given + scores * (width + apart + (1 + width if cut.dropout else 0)),
        input_bytes=given,
    )
