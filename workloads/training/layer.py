"""One transformer layer's forward and backward on one rank, operator by operator.

Activations kept are those of Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
section 4 (arXiv 2205.05198): s b h (10 + 24/t + 5 a s / (h t)) bytes for GPT with 16-bit activations and dropout.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.ops import Collective, Elementwise, Gemm, Size
from workloads.models.architecture import AttentionSpec, DenseMlp, LayerGroup, ModelArchitecture
from workloads.models.stages import kv_heads_per_rank
from workloads.training.attention import attention_core
from workloads.training.cut import Cut, Kernels
from workloads.training.operator import TrainingOp, TrainingOperator

RMS_VECTORS = 1  # weight vectors of an RMSNorm; a LayerNorm has two


def layer_operators(
    architecture: ModelArchitecture, group: LayerGroup, cut: Cut, kernels: Kernels
) -> tuple[TrainingOperator, ...]:
    """A layer's operators in forward order; raises ImpossibleError for layers that training does not model yet."""
    attention, mlp = group.attention, group.mlp
    if not isinstance(attention, AttentionSpec) or not isinstance(mlp, DenseMlp):
        what = "experts" if isinstance(attention, AttentionSpec) else "latent attention"
        raise ImpossibleError(f"model.config: training {architecture.name} needs {what}, which is not modelled yet")
    write = LayerWriter(architecture=architecture, cut=cut, kernels=kernels)
    return (*write.attention(attention), *write.mlp(mlp))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWriter:
    """Writes training operators of one rank."""

    architecture: ModelArchitecture
    cut: Cut
    kernels: Kernels

    def attention(self, spec: AttentionSpec) -> list[TrainingOperator]:
        """Norm, projections, attention over the sequence, and the sum with what came in."""
        cut, hidden = self.cut, self.architecture.hidden_size
        queries = spec.heads // cut.tp * spec.head_dim
        keys = kv_heads_per_rank(spec, cut.tp) * spec.head_dim
        operators = [
            self.norm("input_norm"),
            self.column_parallel("qkv_proj", n=queries + 2 * keys, k=hidden, bias=spec.qkv_bias),
        ]
        if self.architecture.rotary:
            operators.append(self._rotary(queries + keys))
        operators.append(attention_core(spec, cut, self.kernels))
        operators.append(self.row_parallel("o_proj", n=hidden, k=queries, bias=spec.output_bias))
        return [*operators, self.residual("attention_residual", bias=spec.output_bias)]

    def mlp(self, spec: DenseMlp) -> list[TrainingOperator]:
        """Norm, two or three projections with an activation between, and the sum with what came in."""
        cut, hidden = self.cut, self.architecture.hidden_size
        width, up = spec.intermediate_size // cut.tp, 2 if spec.gated else 1
        return [
            self.norm("mlp_norm"),
            self.column_parallel("up_proj", n=up * width, k=hidden, bias=False),
            self._activation(width, spec),
            self.row_parallel("down_proj", n=hidden, k=width, bias=spec.bias),
            self.residual("mlp_residual", bias=spec.bias),
        ]

    def norm(self, name: str) -> TrainingOperator:
        """Reads a row and writes it. Backward reads row and gradient twice, once for the gradients of its own weights
        (apex's fused kernels), writes one, and joins the residual's gradient.
        """
        elements = self.cut.residual_tokens * self.architecture.hidden_size
        width = bytes_per_element(self.cut.dtype)
        join = self.stream(elements, reads=2, writes=1)
        if self.kernels.fused_norm:
            forward, backward = self.stream(elements, reads=1, writes=1), self.stream(elements, reads=4, writes=1)
            saved = elements * width
        else:
            # PyTorch's own operators in fp32: cast, square, mean, scale, cast back, weight; counted in 16-bit passes
            forward, backward = self.stream(elements, reads=10, writes=8), self.stream(elements, reads=17, writes=12)
            saved = elements * (2 * width + bytes_per_element("fp32"))  # also the fp32 copy and the scaled row
        return TrainingOperator(
            name=name, part="norm", forward=(forward,), backward_input=(backward, join), saved_bytes=saved
        )

    def column_parallel(self, name: str, *, n: int, k: int, bias: bool) -> TrainingOperator:
        """A matrix divided by columns: all ranks need the whole input, and add up its gradient."""
        cut = self.cut
        payload = cut.tokens * k * bytes_per_element(cut.dtype)
        divided = cut.sequence_parallel and cut.tp > 1
        return TrainingOperator(
            name=name,
            part="matrix",
            forward=(self.gemm(cut.tokens, n, k), *self._bias(n, bias, reads=1, writes=1)),
            backward_input=(self.gemm(cut.tokens, k, n),),
            backward_weight=self._weight_gradient(n, k, bias),
            saved_bytes=cut.residual_tokens * k * bytes_per_element(cut.dtype),
            output_bytes=cut.tokens * n * bytes_per_element(cut.dtype),
            forward_before=self.collective("all_gather", payload) if divided else None,
            beside_input=self.collective("all_gather", payload) if divided else None,
            beside_weight=self.collective("reduce_scatter" if divided else "all_reduce", payload),
        )

    def row_parallel(self, name: str, *, n: int, k: int, bias: bool) -> TrainingOperator:
        """A matrix divided by rows: the ranks add up its output."""
        cut = self.cut
        payload = cut.tokens * n * bytes_per_element(cut.dtype)
        divided = cut.sequence_parallel and cut.tp > 1
        return TrainingOperator(
            name=name,
            part="matrix",
            forward=(self.gemm(cut.tokens, n, k),),
            backward_input=(self.gemm(cut.tokens, k, n),),
            backward_weight=self._weight_gradient(n, k, bias),
            saved_bytes=cut.tokens * k * bytes_per_element(cut.dtype),
            output_bytes=cut.tokens * n * bytes_per_element(cut.dtype),
            forward_after=self.collective("reduce_scatter" if divided else "all_reduce", payload),
            backward_before=self.collective("all_gather", payload) if divided else None,
        )

    def residual(self, name: str, *, bias: bool) -> TrainingOperator:
        """Bias, dropout and sum with what came in: one pass where fused; a mask of a byte an element is kept."""
        elements = self.cut.residual_tokens * self.architecture.hidden_size
        mask = 0.5 if self.cut.dropout else 0.0  # of a 16-bit pass
        apart = 0 if self.kernels.fused_bias else (int(bias) + int(self.cut.dropout))
        forward = self.stream(elements, reads=2 + apart, writes=1 + mask + apart)
        backward = self.stream(elements, reads=1 + mask, writes=1)
        return TrainingOperator(
            name=name,
            part="residual",
            forward=(forward,),
            backward_input=(backward,) if self.cut.dropout else (),
            saved_bytes=elements if self.cut.dropout else 0.0,
        )

    def gemm(self, m: float, n: float, k: float) -> Gemm:
        """(m, k) times (k, n) in the cut's format."""
        return Gemm(m=m, n=n, k=k, dtype=self.cut.dtype, weight_dtype=self.cut.dtype)

    def stream(self, elements: Size, *, reads: float, writes: float, flop_per_element: float = 4.0) -> Elementwise:
        """One long pass over elements."""
        return Elementwise(
            elements=elements, reads=reads, writes=writes, dtype=self.cut.dtype, flop_per_element=flop_per_element,
            streaming=True,
        )  # fmt: skip

    def collective(self, kind: str, payload_bytes: float) -> Collective | None:
        """Among the tensor-parallel ranks; none where there is one."""
        if self.cut.tp == 1:
            return None
        return Collective(kind=kind, payload_bytes=payload_bytes, ranks=self.cut.tp)

    def _weight_gradient(self, n: int, k: int, bias: bool) -> tuple[TrainingOp, ...]:
        """The product of input and gradient, added to the buffer by itself or by a pass of its own, and the bias's."""
        ops: list[TrainingOp] = [self.gemm(k, n, self.cut.tokens)]
        gradient = bytes_per_element(self.kernels.gradient_dtype) / bytes_per_element(self.cut.dtype)
        if self.kernels.fused_weight_gradient:
            ops.append(self.stream(float(n) * k, reads=gradient, writes=gradient - 1.0))
        else:
            ops.append(self.stream(float(n) * k, reads=1 + gradient, writes=gradient))
        ops.extend(self._bias(n, bias, reads=1, writes=0))
        return tuple(ops)

    def _bias(self, n: int, bias: bool, *, reads: float, writes: float) -> tuple[TrainingOp, ...]:
        return (self.stream(self.cut.tokens * n, reads=reads, writes=writes),) if bias else ()

    def _rotary(self, width: int) -> TrainingOperator:
        """Queries and keys turned by position; apart it is a product, a turned copy, another product and a sum."""
        passes = {"reads": 1.0, "writes": 1.0} if self.kernels.fused_rotary else {"reads": 5.0, "writes": 4.0}
        turn = self.stream(self.cut.tokens * width, **passes)
        return TrainingOperator(name="rope", part="attention", forward=(turn,), backward_input=(turn,))

    def _activation(self, width: int, spec: DenseMlp) -> TrainingOperator:
        """Its input is kept; its output is the next product's input, which keeps it."""
        elements, up = self.cut.tokens * width, 2 if spec.gated else 1
        apart = 0 if self.kernels.fused_bias else (1 if spec.bias or spec.gated else 0)
        forward = self.stream(elements, reads=up + apart, writes=1 + apart, flop_per_element=8.0)
        backward = self.stream(elements, reads=1 + up + 2 * apart, writes=up + apart, flop_per_element=16.0)
        bias = (self.stream(elements, reads=1, writes=0),) if spec.bias else ()
        saved = (up + apart) * elements * bytes_per_element(self.cut.dtype)
        return TrainingOperator(
            name="activation",
            part="mlp",
            forward=(forward,),
            backward_input=(backward,),
            backward_weight=bias,
            saved_bytes=saved,
        )
