"""The operators of one layer on one tensor-parallel rank, attention over the cache excepted."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.ops import Elementwise, Gemm, GroupedGemm, Op, Size
from workloads.models.architecture import Attention, AttentionSpec, DenseMlp, LatentAttentionSpec, Mlp, MoeMlp
from workloads.models.dtypes import Dtypes
from workloads.models.stages import kv_heads_per_rank


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, and how often a step runs it."""

    name: str
    op: Op
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOperators:
    """Writes a layer's operators for a batch of `tokens` (a number or an array of them)."""

    hidden: int
    tokens: Size
    tp: int
    dtypes: Dtypes
    experts_dtype: str  # of the experts' weights
    rotary: bool

    def attention(self, spec: Attention) -> list[Operator]:
        """Projections and rotation; writing the KV cache is priced with attention, which it was timed with."""
        return self._latent(spec) if isinstance(spec, LatentAttentionSpec) else self._grouped_query(spec)

    def mlp(self, spec: Mlp) -> list[Operator]:
        """Dense, or router and experts."""
        if isinstance(spec, DenseMlp):
            return self._dense("", spec.intermediate_size, spec.gated)
        return self._experts(spec)

    def _grouped_query(self, spec: AttentionSpec) -> list[Operator]:
        heads, kv_heads = spec.heads // self.tp, kv_heads_per_rank(spec, self.tp)
        query, cached = heads * spec.head_dim, 2 * kv_heads * spec.head_dim
        operators = [self._gemm("qkv_proj", query + cached, self.hidden)]
        if spec.qk_norm:
            operators.append(self._elementwise("qk_norm", (heads + kv_heads) * spec.head_dim, flop_per_element=4))
        if self.rotary:
            operators.append(self._elementwise("rope", (heads + kv_heads) * spec.head_dim, flop_per_element=3))
        return [*operators, self._gemm("o_proj", self.hidden, query)]

    def _latent(self, spec: LatentAttentionSpec) -> list[Operator]:
        """Decoding form of latent attention: K's up-projection is absorbed into queries and V's into outputs, head by
        head.

        Each is a batched product over the heads with as much arithmetic and as many weights as expanding K and V of
        the new
        tokens, so prompts are priced alike; expanding again the context of an earlier chunk is not counted.
        """
        heads, nope, rope = spec.heads // self.tp, spec.qk_nope_head_dim, spec.qk_rope_head_dim
        latent = spec.kv_lora_rank + rope
        if spec.q_lora_rank:
            queries = [
                self._gemm("q_down_proj", spec.q_lora_rank, self.hidden),
                self._elementwise("q_norm", spec.q_lora_rank, flop_per_element=4),
                self._gemm("q_up_proj", heads * (nope + rope), spec.q_lora_rank),
            ]
        else:
            queries = [self._gemm("q_proj", heads * (nope + rope), self.hidden)]
        return [
            *queries,
            self._gemm("kv_down_proj", latent, self.hidden),
            self._elementwise("kv_norm", spec.kv_lora_rank, flop_per_element=4),
            self._batched("k_up_proj_absorbed", heads, n=spec.kv_lora_rank, k=nope),
            self._elementwise("rope", (heads + 1) * rope, flop_per_element=3),
            self._batched("v_up_proj_absorbed", heads, n=spec.v_head_dim, k=spec.kv_lora_rank),
            self._gemm("o_proj", self.hidden, heads * spec.v_head_dim),
        ]

    def _experts(self, spec: MoeMlp) -> list[Operator]:
        shard, up = -(-spec.expert_intermediate_size // self.tp), 2 if spec.gated else 1
        routed = spec.top_k * shard
        operators = [
            self._kept_gemm("router", spec.experts),
            self._grouped("experts_up_proj", spec, n=up * shard, k=self.hidden),
            self._elementwise("experts_activation", routed, reads=up, flop_per_element=5),
            self._grouped("experts_down_proj", spec, n=self.hidden, k=shard),
            self._elementwise("experts_combine", self.hidden, reads=spec.top_k, flop_per_element=2.0 * spec.top_k),
        ]
        if spec.shared_intermediate_size:
            operators += self._dense("shared_", spec.shared_intermediate_size, spec.gated)
        if spec.shared_gate:
            operators.append(self._kept_gemm("shared_gate", 1))
        return operators

    def _dense(self, prefix: str, intermediate: int, gated: bool) -> list[Operator]:
        shard, up = -(-intermediate // self.tp), 2 if gated else 1
        return [
            self._gemm(f"{prefix}up_proj", up * shard, self.hidden),
            self._elementwise(f"{prefix}activation", shard, reads=up, flop_per_element=5),
            self._gemm(f"{prefix}down_proj", self.hidden, shard),
        ]

    def _gemm(self, name: str, n: int, k: int) -> Operator:
        op = Gemm(m=self.tokens, n=n, k=k, dtype=self.dtypes.activation, weight_dtype=self.dtypes.weight)
        return Operator(name, op, 1)

    def _kept_gemm(self, name: str, n: int) -> Operator:
        """A projection that quantisation leaves alone; every rank computes all of it."""
        op = Gemm(m=self.tokens, n=n, k=self.hidden, dtype=self.dtypes.residual, weight_dtype=self.dtypes.kept)
        return Operator(name, op, 1)

    def _grouped(self, name: str, spec: MoeMlp, n: int, k: int) -> Operator:
        op = GroupedGemm(
            tokens=self.tokens,
            n=n,
            k=k,
            experts=spec.experts,
            top_k=spec.top_k,
            dtype=self.dtypes.activation,
            weight_dtype=self.experts_dtype,
        )
        return Operator(name, op, 1)

    def _batched(self, name: str, heads: int, n: int, k: int) -> Operator:
        """One (k, n) matrix a head, all in one kernel: the arithmetic and weights of one product that much wider."""
        return self._gemm(name, heads * n, k)

    def _elementwise(self, name: str, width: int, reads: float = 1, flop_per_element: float = 1) -> Operator:
        op = Elementwise(
            elements=self.tokens * width,
            reads=reads,
            writes=1,
            dtype=self.dtypes.residual,
            flop_per_element=flop_per_element,
        )
        return Operator(name, op, 1)
