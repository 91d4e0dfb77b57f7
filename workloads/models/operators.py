"""What one tensor-parallel rank of one pipeline stage must compute in a step, as operators."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import FleetcastError
from hardware_models.ops import (
    AttentionDecode,
    AttentionPrefill,
    Collective,
    Elementwise,
    Embedding,
    Gemm,
    GroupedGemm,
    Op,
    Size,
)
from workloads.models.architecture import (
    Attention,
    AttentionSpec,
    DenseMlp,
    LatentAttentionSpec,
    LayerGroup,
    ModelArchitecture,
    MoeMlp,
)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, and how often a step runs it."""

    name: str
    op: Op
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Number formats of weights, of the arithmetic on activations, and of the KV cache."""

    weight: str
    activation: str
    kv_cache: str

    @property
    def residual(self) -> str:
        """Format of activations between matrix products: narrow formats exist inside products only."""
        return self.activation if bytes_per_element(self.activation) >= 2 else "bf16"


@dataclass(frozen=True, slots=True)
class LayerRange:
    """The layers of one pipeline stage: start <= layer < stop, of `total`."""

    start: int
    stop: int
    total: int

    def count(self, group: LayerGroup) -> int:
        """How many layers of a group are in the range."""
        return sum(self.start <= layer < self.stop for layer in group.layers)


def split_layers(num_layers: int, stages: int) -> list[LayerRange]:
    """Even pipeline stages; left-over layers go one each to the last stages but the very last, which has the head
    (vLLM).
    """
    base, left = divmod(num_layers, stages)
    sizes = [base] * stages
    for i in range(left):
        sizes[-(i + 2) if left < stages else -(i + 1)] += 1
    ranges, start = [], 0
    for size in sizes:
        ranges.append(LayerRange(start, start + size, num_layers))
        start += size
    return ranges


def check_tensor_parallel(architecture: ModelArchitecture, tp: int) -> None:
    """Raise FleetcastError unless every rank gets the same number of attention heads."""
    heads = architecture.groups[0].attention.heads
    if heads % tp:
        fits = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise FleetcastError(
            f"serving.tensor_parallel_size = {tp}: does not divide the {heads} attention heads of {architecture.name};"
            f" accepted: {fits}"
        )


def kv_heads_per_rank(spec: AttentionSpec, tp: int) -> int:
    """KV heads on one rank; with more ranks than KV heads each head is kept on several."""
    return max(1, -(-spec.kv_heads // tp))


def token_operators(
    architecture: ModelArchitecture, tokens: Size, tp: int, layers: LayerRange, dtypes: Dtypes
) -> list[Operator]:
    """Everything whose cost depends only on the number of tokens in the batch: (n,) token counts give (n,) sizes."""
    hidden = architecture.hidden_size
    operators: list[Operator] = []
    if layers.start == 0:
        operators.append(Operator("embedding", Embedding(tokens=tokens, width=hidden, dtype=dtypes.residual), 1))
        if tp > 1:  # rows of the table are spread over ranks
            operators.append(Operator("embedding_all_reduce", _all_reduce(tokens, hidden, tp, dtypes), 1))
    for group in architecture.groups:
        count = layers.count(group)
        if not count:
            continue
        parts = _attention_operators(architecture, group.attention, tokens, tp, dtypes)
        parts += _mlp_operators(architecture, group.mlp, tokens, tp, dtypes)
        # each norm also adds the residual: reads both, writes the sum and the normalised
        norm = Elementwise(elements=tokens * hidden, reads=2, writes=2, dtype=dtypes.residual, flop_per_element=6)
        parts.append(Operator("norm", norm, architecture.norms_per_layer))
        if tp > 1:
            sums = 1 if architecture.parallel_block else 2
            parts.append(Operator("all_reduce", _all_reduce(tokens, hidden, tp, dtypes), sums))
        operators += [Operator(part.name, part.op, part.count * count) for part in parts]
    return operators


def head_operators(architecture: ModelArchitecture, sequences: Size, tp: int, dtypes: Dtypes) -> list[Operator]:
    """Final norm, output projection and sampling for one position of each sequence, on the last stage.

    The head's weights stay in the residual's format; each rank holds a share of the vocabulary and gathers the logits.
    """
    hidden, shard = architecture.hidden_size, -(-architecture.vocab_size // tp)
    residual = dtypes.residual
    operators = [
        Operator(
            "final_norm",
            Elementwise(elements=sequences * hidden, reads=2, writes=2, dtype=residual, flop_per_element=6),
            1,
        ),
        Operator("lm_head", Gemm(m=sequences, n=shard, k=hidden, dtype=residual, weight_dtype=residual), 1),
        Operator(
            "sampling",
            Elementwise(
                elements=sequences * architecture.vocab_size, reads=2, writes=1, dtype="fp32", flop_per_element=5
            ),
            1,
        ),
    ]
    if tp > 1:
        payload = sequences * architecture.vocab_size * bytes_per_element(residual)
        operators.append(
            Operator("logits_all_gather", Collective(kind="all_gather", payload_bytes=payload, ranks=tp), 1)
        )
    return operators


def _all_reduce(tokens: Size, width: int, tp: int, dtypes: Dtypes) -> Collective:
    payload = tokens * width * bytes_per_element(dtypes.residual)
    return Collective(kind="all_reduce", payload_bytes=payload, ranks=tp)


def _gemm(name: str, tokens: Size, n: int, k: int, dtypes: Dtypes, count: float = 1) -> Operator:
    return Operator(name, Gemm(m=tokens, n=n, k=k, dtype=dtypes.activation, weight_dtype=dtypes.weight), count)


def _attention_operators(
    architecture: ModelArchitecture, spec: Attention, tokens: Size, tp: int, dtypes: Dtypes
) -> list[Operator]:
    hidden = architecture.hidden_size
    if isinstance(spec, LatentAttentionSpec):
        return _latent_operators(hidden, spec, tokens, tp, dtypes)
    heads, kv_heads = spec.heads // tp, kv_heads_per_rank(spec, tp)
    query, cached = heads * spec.head_dim, 2 * kv_heads * spec.head_dim
    rotated = tokens * (heads + kv_heads) * spec.head_dim
    operators = [
        _gemm("qkv_proj", tokens, query + cached, hidden, dtypes),
        Operator("kv_write", Elementwise(elements=tokens * cached, reads=1, writes=1, dtype=dtypes.kv_cache), 1),
        _gemm("o_proj", tokens, hidden, query, dtypes),
    ]
    if architecture.rotary:
        rope = Elementwise(elements=rotated, reads=1, writes=1, dtype=dtypes.residual, flop_per_element=3)
        operators.append(Operator("rope", rope, 1))
    if spec.qk_norm:
        norm = Elementwise(elements=rotated, reads=1, writes=1, dtype=dtypes.residual, flop_per_element=4)
        operators.append(Operator("qk_norm", norm, 1))
    return operators


def _latent_operators(hidden: int, spec: LatentAttentionSpec, tokens: Size, tp: int, dtypes: Dtypes) -> list[Operator]:
    """Projections of latent attention; the up-projections of K and V are absorbed into queries and outputs, head by
    head.
    """
    heads = spec.heads // tp
    qk_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim
    latent = spec.kv_lora_rank + spec.qk_rope_head_dim
    if spec.q_lora_rank:
        operators = [
            _gemm("q_down_proj", tokens, spec.q_lora_rank, hidden, dtypes),
            _gemm("q_up_proj", tokens, heads * qk_dim, spec.q_lora_rank, dtypes),
        ]
    else:
        operators = [_gemm("q_proj", tokens, heads * qk_dim, hidden, dtypes)]
    rope = Elementwise(
        elements=tokens * (heads + 1) * spec.qk_rope_head_dim,
        reads=1,
        writes=1,
        dtype=dtypes.residual,
        flop_per_element=3,
    )
    return [
        *operators,
        _gemm("kv_down_proj", tokens, latent, hidden, dtypes),
        # block-diagonal over heads: as one product with the heads' rows stacked
        _gemm("k_up_proj_absorbed", tokens, heads * spec.kv_lora_rank, spec.qk_nope_head_dim, dtypes),
        _gemm("v_up_proj_absorbed", tokens, heads * spec.v_head_dim, spec.kv_lora_rank, dtypes),
        Operator("rope", rope, 1),
        Operator("kv_write", Elementwise(elements=tokens * latent, reads=1, writes=1, dtype=dtypes.kv_cache), 1),
        _gemm("o_proj", tokens, hidden, heads * spec.v_head_dim, dtypes),
    ]


def _mlp_operators(
    architecture: ModelArchitecture, spec: DenseMlp | MoeMlp, tokens: Size, tp: int, dtypes: Dtypes
) -> list[Operator]:
    hidden = architecture.hidden_size
    if isinstance(spec, DenseMlp):
        return _dense_mlp("", hidden, spec.intermediate_size, spec.gated, tokens, tp, dtypes)
    shard = -(-spec.expert_intermediate_size // tp)
    up = 2 if spec.gated else 1
    expert_dtype = dict(architecture.stored_dtypes).get("experts", dtypes.weight)

    def grouped(n: int, k: int) -> GroupedGemm:
        return GroupedGemm(
            tokens=tokens,
            n=n,
            k=k,
            experts=spec.experts,
            top_k=spec.top_k,
            dtype=dtypes.activation,
            weight_dtype=expert_dtype,
        )

    routed = tokens * spec.top_k * shard
    operators = [
        Operator(
            "router",
            Gemm(m=tokens, n=spec.experts, k=hidden, dtype=dtypes.residual, weight_dtype=dtypes.residual),
            1,
        ),
        Operator("experts_up_proj", grouped(up * shard, hidden), 1),
        Operator(
            "experts_activation",
            Elementwise(elements=routed, reads=up, writes=1, dtype=dtypes.residual, flop_per_element=5),
            1,
        ),
        Operator("experts_down_proj", grouped(hidden, shard), 1),
        Operator(
            "experts_combine",
            Elementwise(
                elements=tokens * hidden, reads=spec.top_k, writes=1, dtype=dtypes.residual, flop_per_element=2
            ),
            1,
        ),
    ]
    if spec.shared_intermediate_size:
        operators += _dense_mlp("shared_", hidden, spec.shared_intermediate_size, spec.gated, tokens, tp, dtypes)
    return operators


def _dense_mlp(
    prefix: str, hidden: int, intermediate: int, gated: bool, tokens: Size, tp: int, dtypes: Dtypes
) -> list[Operator]:
    shard, up = -(-intermediate // tp), 2 if gated else 1
    activation = Elementwise(elements=tokens * shard, reads=up, writes=1, dtype=dtypes.residual, flop_per_element=5)
    return [
        _gemm(f"{prefix}up_proj", tokens, up * shard, hidden, dtypes),
        Operator(f"{prefix}activation", activation, 1),
        _gemm(f"{prefix}down_proj", tokens, hidden, shard, dtypes),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention over the KV cache in `layers` equal layers of one rank, for prompts and for decoding."""

    layers: int
    window: int
    heads: int
    prefill_qk_dim: int
    prefill_v_dim: int
    prefill_kv_width: int  # elements read a token and layer
    decode_qk_dim: int
    decode_v_dim: int
    decode_kv_width: int

    def prefill_op(self, *, pairs: Size, queries: Size, kv_tokens: Size, dtypes: Dtypes) -> AttentionPrefill:
        """Over prompts or chunks of them; sizes are sums over sequences."""
        return AttentionPrefill(
            pairs=pairs, queries=queries, kv_tokens=kv_tokens, heads=self.heads, qk_dim=self.prefill_qk_dim,
            v_dim=self.prefill_v_dim, kv_width=self.prefill_kv_width, dtype=dtypes.residual, kv_dtype=dtypes.kv_cache,
        )  # fmt: skip

    def decode_op(self, *, sequences: Size, kv_tokens: Size, dtypes: Dtypes) -> AttentionDecode:
        """One new token a sequence; `kv_tokens` is the sum of contexts, the new tokens included."""
        return AttentionDecode(
            pairs=kv_tokens, queries=sequences, kv_tokens=kv_tokens, heads=self.heads, qk_dim=self.decode_qk_dim,
            v_dim=self.decode_v_dim, kv_width=self.decode_kv_width, dtype=dtypes.residual, kv_dtype=dtypes.kv_cache,
        )  # fmt: skip


def attention_shapes(architecture: ModelArchitecture, tp: int, layers: LayerRange) -> list[AttentionShape]:
    """Distinct attention shapes of a stage.

    Latent attention decodes in its latent space (all heads read one vector a token) and prefills with heads expanded.
    """
    counts: dict[Attention, int] = {}
    for group in architecture.groups:
        if n := layers.count(group):
            counts[group.attention] = counts.get(group.attention, 0) + n
    return [_attention_shape(spec, tp, count) for spec, count in counts.items()]


def _attention_shape(spec: Attention, tp: int, count: int) -> AttentionShape:
    heads = spec.heads // tp
    if isinstance(spec, LatentAttentionSpec):
        qk_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim
        latent = spec.kv_lora_rank + spec.qk_rope_head_dim
        return AttentionShape(
            layers=count, window=spec.window, heads=heads, prefill_qk_dim=qk_dim, prefill_v_dim=spec.v_head_dim,
            prefill_kv_width=heads * (qk_dim + spec.v_head_dim), decode_qk_dim=latent, decode_v_dim=spec.kv_lora_rank,
            decode_kv_width=latent,
        )  # fmt: skip
    width = 2 * kv_heads_per_rank(spec, tp) * spec.head_dim
    dim = spec.head_dim
    return AttentionShape(
        layers=count, window=spec.window, heads=heads, prefill_qk_dim=dim, prefill_v_dim=dim, prefill_kv_width=width,
        decode_qk_dim=dim, decode_v_dim=dim, decode_kv_width=width,
    )  # fmt: skip
