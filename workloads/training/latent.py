"""Multi-head latent attention in training (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values are expanded.

Down-projections and their norms are whole on every tensor-parallel rank and take its part of the rows; up-projections
are divided by heads. Queries and keys are `qk_nope_head_dim` and `qk_rope_head_dim` wide together, values `v_head_dim`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.ops import AttentionTraining
from workloads.models.architecture import LatentAttentionSpec
from workloads.training.context import ContextShare
from workloads.training.operator import TrainingOperator
from workloads.training.products import ProductWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWriter(ProductWriter):
    """Writes latent attention."""

    def attention(self, spec: LatentAttentionSpec) -> list[TrainingOperator]:
        """Norm, projections down and up, attention over the sequence, and the sum with what came in."""
        heads, hidden = spec.heads // self.cut.tp, self.architecture.hidden_size
        return [
            self.norm("input_norm"),
            *self._queries(spec, heads),
            *self._keys_and_values(spec, heads),
            self._rope(spec, heads),
            self._core(spec, heads),
            self.row_parallel("o_proj", n=hidden, k=heads * spec.v_head_dim, bias=False),
            self.residual("attention_residual", bias=False),
        ]

    def _queries(self, spec: LatentAttentionSpec, heads: int) -> list[TrainingOperator]:
        hidden, rows = self.architecture.hidden_size, self.cut.residual_tokens
        width = heads * (spec.qk_nope_head_dim + spec.qk_rope_head_dim)
        if not spec.q_lora_rank:
            return [self.column_parallel("q_proj", n=width, k=hidden, bias=False, fed_by="input_norm")]
        return [
            self.local("q_down_proj", rows=rows, n=spec.q_lora_rank, k=hidden, fed_by="input_norm"),
            self.norm("q_norm", rows * spec.q_lora_rank, joins=False),
            self.column_parallel("q_up_proj", n=width, k=spec.q_lora_rank, bias=False, fed_by="q_norm"),
        ]

    def _keys_and_values(self, spec: LatentAttentionSpec, heads: int) -> list[TrainingOperator]:
        """The part of the keys that positions turn is one for all heads; it comes with the latent vector."""
        hidden, rows = self.architecture.hidden_size, self.cut.residual_tokens
        down = self.local(
            "kv_down_proj", rows=rows, n=spec.kv_lora_rank + spec.qk_rope_head_dim, k=hidden, fed_by="input_norm"
        )
        if spec.q_lora_rank:  # the queries' down-projection keeps, and turns to fp8, the same input
            down = replace(down, saved_bytes=0.0, input_bytes=0.0, forward=down.forward[-1:])
        width = heads * (spec.qk_nope_head_dim + spec.v_head_dim)
        return [
            down,
            self.norm("kv_norm", rows * spec.kv_lora_rank, joins=False),
            self.column_parallel("kv_up_proj", n=width, k=spec.kv_lora_rank, bias=False, fed_by="kv_norm"),
        ]

    def _rope(self, spec: LatentAttentionSpec, heads: int) -> TrainingOperator:
        """Turns a part of queries and keys, and lays keys out head by head, each with the turned part that all share;
        fused, queries are turned in place.
        """
        tokens = float(self.cut.tokens)
        turned = tokens * heads * spec.qk_rope_head_dim
        given = tokens * heads * (spec.qk_nope_head_dim + spec.v_head_dim)
        laid_out = given + turned
        queries = turned if self.kernels.fused_rotary else tokens * heads * spec.qk_nope_head_dim + 4.0 * turned
        passes = (
            self.stream(queries, reads=1, writes=1),
            self.stream(given, reads=1, writes=laid_out / given),
        )
        back = (self.stream(queries, reads=1, writes=1), self.stream(given, reads=laid_out / given, writes=1))
        return TrainingOperator(name="rope", part="attention", forward=passes, backward_input=back)

    def _core(self, spec: LatentAttentionSpec, heads: int) -> TrainingOperator:
        """Keeps queries, keys and values, and a sum of exponentials a query and head in fp32."""
        cut = self.cut
        if cut.attention == "standard":
            raise ImpossibleError(
                "training.attention = 'standard': latent attention is modelled with fused kernels alone; take 'flash2',"
                " 'flash3' or 'cudnn'"
            )
        qk_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim
        share = ContextShare(cut=cut, heads=heads, kv_heads=heads, qk_dim=qk_dim, v_dim=spec.v_head_dim)
        given = share.query_bytes + share.key_bytes
        output = share.output_bytes if cut.fp8 is not None else 0.0  # else the next product keeps it
        core = TrainingOperator(
            name="attention",
            part="attention_core",
            saved_bytes=given + cut.tokens * heads * bytes_per_element("fp32") + output,
            input_bytes=given,
            fed_by="rope",
        )
        if cut.cp > 1:
            cut.context.check(share)
            return replace(
                core, forward_steps=cut.context.forward(share), backward_steps=cut.context.backward(share),
                working_bytes=cut.context.working_bytes(share),
            )  # fmt: skip

        def kernel(backward: bool) -> AttentionTraining:
            return share.block(cut.queries, cut.queries, causal=True, backward=backward)

        return replace(core, forward=(kernel(False),), backward_input=(kernel(True),))
