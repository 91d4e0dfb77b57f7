"""One transformer layer's forward and backward on one rank, operator by operator.

Activations kept are those of Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
section 4 (arXiv 2205.05198): s b h (10 + 24/t + 5 a s / (h t)) bytes for GPT with 16-bit activations and dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workloads.models.architecture import AttentionSpec, DenseMlp, LatentAttentionSpec, LayerGroup, ModelArchitecture
from workloads.models.stages import kv_heads_per_rank
from workloads.training.attention import attention_core
from workloads.training.cut import Cut, Kernels
from workloads.training.experts import ExpertWriter
from workloads.training.latent import LatentWriter
from workloads.training.operator import TrainingOperator
from workloads.training.products import ProductWriter


def layer_operators(
    architecture: ModelArchitecture, group: LayerGroup, cut: Cut, kernels: Kernels
) -> tuple[TrainingOperator, ...]:
    """A layer's operators in forward order."""
    write = LayerWriter(architecture=architecture, cut=cut, kernels=kernels)
    if architecture.parallel_block and isinstance(group.attention, AttentionSpec) and isinstance(group.mlp, DenseMlp):
        return tuple(write.parallel_block(group.attention, group.mlp))
    if isinstance(group.attention, LatentAttentionSpec):
        latent = LatentWriter(architecture=architecture, cut=cut, kernels=kernels)
        attention = latent.attention(group.attention)
    else:
        attention = write.attention(group.attention)
    if isinstance(group.mlp, DenseMlp):
        return (*attention, *write.mlp(group.mlp))
    experts = ExpertWriter(architecture=architecture, cut=cut, kernels=kernels)
    return (*attention, *experts.mlp(group.mlp))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWriter(ProductWriter):
    """Writes layers of multi-head or grouped-query attention and a dense MLP."""

    def attention(self, spec: AttentionSpec) -> list[TrainingOperator]:
        """Norm, projections, attention over the sequence, and the sum with what came in."""
        hidden = self.architecture.hidden_size
        queries, keys = self._heads(spec)
        return [
            self.norm("input_norm"),
            self.column_parallel("qkv_proj", n=queries + 2 * keys, k=hidden, bias=spec.qkv_bias, fed_by="input_norm"),
            *self._attend(spec),
            self.row_parallel("o_proj", n=hidden, k=queries, bias=spec.output_bias),
            self.residual("attention_residual", bias=spec.output_bias),
        ]

    def mlp(self, spec: DenseMlp) -> list[TrainingOperator]:
        """Norm, two or three projections with an activation between, and the sum with what came in."""
        cut, hidden = self.cut, self.architecture.hidden_size
        width = spec.intermediate_size // cut.tp
        return [
            self.norm("mlp_norm"),
            *self._up(spec, width),
            self.activation(cut.tokens * width, gated=spec.gated, bias=spec.bias),
            self.row_parallel("down_proj", n=hidden, k=width, bias=spec.bias, fed_by="activation"),
            self.residual("mlp_residual", bias=spec.bias),
        ]

    def parallel_block(self, attention: AttentionSpec, mlp: DenseMlp) -> list[TrainingOperator]:
        """Attention and MLP of one input, summed at once: where one norm feeds both, their projections are one product;
        ranks gather that input once, and add up both outputs once (GPT-J; PaLM, arXiv 2204.02311, section 2; MegaScale,
        2402.15627, section 3.1).
        """
        cut, hidden = self.cut, self.architecture.hidden_size
        queries, keys = self._heads(attention)
        heads, width = queries + 2 * keys, mlp.intermediate_size // cut.tp
        bias, qkv_bias = attention.output_bias or mlp.bias, attention.qkv_bias
        if self.architecture.norms_per_layer > 1:
            qkv = self.column_parallel("qkv_proj", n=heads, k=hidden, bias=qkv_bias, fed_by="input_norm")
            projections = [self.norm("input_norm"), qkv, self.norm("mlp_norm"), *self._up(mlp, width)]
        else:
            both = heads + (2 if mlp.gated else 1) * width
            merged = self.column_parallel("qkv_up_proj", n=both, k=hidden, bias=False, fed_by="input_norm")
            projections = [self.norm("input_norm"), self.with_bias(merged, heads) if qkv_bias else merged]
        out = self.row_parallel("o_proj", n=hidden, k=queries, bias=attention.output_bias)
        down = self.row_parallel("down_proj", n=hidden, k=width, bias=mlp.bias, fed_by="activation")
        onto = self.stream(float(cut.tokens) * hidden, reads=1, writes=0)  # its product adds to attention's output
        return [
            *projections,
            *self._attend(attention),
            self.activation(cut.tokens * width, gated=mlp.gated, bias=mlp.bias),
            replace(out, forward_after=None, backward_before=None),
            replace(down, forward=(*down.forward, onto)),
            self.residual("residual", bias=bias),
        ]

    def _heads(self, spec: AttentionSpec) -> tuple[int, int]:
        """Elements of a token's queries, and of its keys, on this rank."""
        tp = self.cut.tp
        return spec.heads // tp * spec.head_dim, kv_heads_per_rank(spec, tp) * spec.head_dim

    def _attend(self, spec: AttentionSpec) -> list[TrainingOperator]:
        """From queries, keys and values to the input of the output's projection."""
        cut, (queries, keys) = self.cut, self._heads(spec)
        operators = []
        if spec.qk_norm:
            operators.append(self.norm("qk_norm", float(cut.tokens) * (queries + keys), joins=False))
        if self.architecture.rotary:
            operators.append(self._rotary(queries + keys))
        core = attention_core(spec, cut, self.kernels)
        if cut.fp8 is not None:  # the next product keeps fp8; attention needs its output in 16 bits
            core = replace(core, saved_bytes=core.saved_bytes + cut.tokens * queries * self.width)
        return [*operators, core]

    def _up(self, spec: DenseMlp, width: int) -> list[TrainingOperator]:
        """One product, or a gate and an up projection apart: each exchanges by itself, and the gradients of the input
        that they share are added up.
        """
        hidden = self.architecture.hidden_size
        if not spec.gated or self.kernels.fused_gate:
            n = (2 if spec.gated else 1) * width
            return [self.column_parallel("up_proj", n=n, k=hidden, bias=False, fed_by="mlp_norm")]
        gate = self.column_parallel("gate_proj", n=width, k=hidden, bias=False, fed_by="mlp_norm")
        up = self.column_parallel("up_proj", n=width, k=hidden, bias=False, fed_by="mlp_norm")
        join = self.stream(self.cut.residual_tokens * hidden, reads=2, writes=1)
        return [gate, replace(up, saved_bytes=0.0, input_bytes=0.0, backward_input=(*up.backward_input, join))]

    def _rotary(self, width: int) -> TrainingOperator:
        """Queries and keys turned by position; apart it is a product, a turned copy, another product and a sum."""
        passes = {"reads": 1.0, "writes": 1.0} if self.kernels.fused_rotary else {"reads": 5.0, "writes": 4.0}
        turn = self.stream(self.cut.tokens * width, **passes)
        return TrainingOperator(name="rope", part="attention", forward=(turn,), backward_input=(turn,))
