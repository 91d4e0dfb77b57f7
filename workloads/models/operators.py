"""What one tensor-parallel rank of one pipeline stage must compute in a step, as operators."""

from __future__ import annotations

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Collective, Elementwise, Embedding, Gemm, Size
from workloads.models.architecture import ModelArchitecture
from workloads.models.attention_shapes import AttentionShape, attention_shapes
from workloads.models.dtypes import Dtypes
from workloads.models.layer_operators import LayerOperators, Operator
from workloads.models.stages import LayerRange, check_tensor_parallel, split_layers

__all__ = [
    "AttentionShape",
    "Dtypes",
    "LayerRange",
    "Operator",
    "attention_shapes",
    "check_tensor_parallel",
    "head_operators",
    "split_layers",
    "token_operators",
]


def token_operators(
    architecture: ModelArchitecture, tokens: Size, tp: int, layers: LayerRange, dtypes: Dtypes
) -> list[Operator]:
    """Everything whose cost depends only on the number of tokens in the batch: (n,) token counts give (n,) sizes."""
    write = LayerOperators(
        hidden=architecture.hidden_size,
        tokens=tokens,
        tp=tp,
        dtypes=dtypes,
        experts_dtype=dict(architecture.stored_dtypes).get("experts", dtypes.weight),
        rotary=architecture.rotary,
    )
    operators = _embedding(architecture, tokens, tp, dtypes) if layers.start == 0 else []
    for group in architecture.groups:
        if not (count := layers.count(group)):
            continue
        parts = [
            *_norms(architecture, tokens, dtypes),
            *write.attention(group.attention),
            *write.mlp(group.mlp),
        ]
        if tp > 1:
            sums = 1 if architecture.parallel_block else 2
            parts.append(Operator("all_reduce", _all_reduce(architecture, tokens, tp, dtypes), sums))
        operators += [Operator(part.name, part.op, part.count * count) for part in parts]
    return operators


def head_operators(architecture: ModelArchitecture, sequences: Size, tp: int, dtypes: Dtypes) -> list[Operator]:
    """Final norm, output projection and sampling for one position of each sequence, on the last stage.

    Each rank holds a share of the vocabulary's rows and gathers the logits; the head's weights are never quantised.
    """
    hidden, vocab, residual = architecture.hidden_size, architecture.vocab_size, dtypes.residual
    head = Gemm(m=sequences, n=-(-vocab // tp), k=hidden, dtype=residual, weight_dtype=dtypes.kept)
    # softmax and draw in fp32 (vLLM's sampler): logits read twice, probabilities written
    sampling = Elementwise(elements=sequences * vocab, reads=2, writes=1, dtype="fp32", flop_per_element=5)
    operators = [Operator("lm_head", head, 1), Operator("sampling", sampling, 1)]
    if architecture.final_norm:
        operators.insert(0, Operator("final_norm", _norm(architecture, sequences, dtypes, fused=True), 1))
    if tp > 1:
        payload = sequences * vocab * bytes_per_element(residual)
        gather = Collective(kind="all_gather", payload_bytes=payload, ranks=tp)
        operators.append(Operator("logits_all_gather", gather, 1))
    return operators


def _embedding(architecture: ModelArchitecture, tokens: Size, tp: int, dtypes: Dtypes) -> list[Operator]:
    """Rows of the token table, which are spread over ranks, and of the position table, which each rank holds whole."""
    row = Embedding(tokens=tokens, width=architecture.hidden_size, dtype=dtypes.residual)
    operators = [Operator("embedding", row, 1)]
    if tp > 1:
        operators.append(Operator("embedding_all_reduce", _all_reduce(architecture, tokens, tp, dtypes), 1))
    if architecture.learned_positions:
        operators.append(Operator("position_embedding", row, 1))
    if architecture.extra_norms:
        norm = _norm(architecture, tokens, dtypes, fused=False)
        operators.append(Operator("embedding_norm", norm, architecture.extra_norms))
    return operators


def _norms(architecture: ModelArchitecture, tokens: Size, dtypes: Dtypes) -> list[Operator]:
    """One norm for each residual sum is fused with it; the others stand alone."""
    fused = min(architecture.norms_per_layer, 1 if architecture.parallel_block else 2)
    operators = [Operator("norm", _norm(architecture, tokens, dtypes, fused=True), fused)]
    if alone := architecture.norms_per_layer - fused:
        operators.append(Operator("post_norm", _norm(architecture, tokens, dtypes, fused=False), alone))
    return operators


def _norm(architecture: ModelArchitecture, tokens: Size, dtypes: Dtypes, *, fused: bool) -> Elementwise:
    """Fused with the residual sum it reads both terms and writes the sum and its norm."""
    passes = 2 if fused else 1
    return Elementwise(
        elements=tokens * architecture.hidden_size,
        reads=passes,
        writes=passes,
        dtype=dtypes.residual,
        flop_per_element=6,
    )


def _all_reduce(architecture: ModelArchitecture, tokens: Size, tp: int, dtypes: Dtypes) -> Collective:
    payload = tokens * architecture.hidden_size * bytes_per_element(dtypes.residual)
    return Collective(kind="all_reduce", payload_bytes=payload, ranks=tp)
