"""What every layer is written with: matrix products divided over ranks, norms, residual sums, passes, exchanges."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Collective, Elementwise, Gemm, Size
from workloads.models.architecture import ModelArchitecture
from workloads.training.cut import Cut, Kernels
from workloads.training.operator import Repeated, TrainingOp, TrainingOperator

Ops = tuple[TrainingOp, ...]
FP8 = "fp8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductWriter:
    """Writes training operators of one rank."""

    architecture: ModelArchitecture
    cut: Cut
    kernels: Kernels

    @property
    def width(self) -> float:
        """Bytes of an activation."""
        return bytes_per_element(self.cut.dtype)

    def kept_width(self, *, narrow: bool = True) -> float:
        """Bytes of an element of a product's input, as it is kept, and as ranks exchange it before the product."""
        return self.cut.fp8.kept_bytes if self.cut.fp8 is not None and narrow else self.width

    def norm(self, name: str, elements: float | None = None, *, joins: bool = True) -> TrainingOperator:
        """Reads a row and writes it. Backward reads row and gradient twice, once for the gradients of its own weights
        (apex's fused kernels), writes one, and joins the residual's gradient where there is one.

        elements: of the rank's part; None: of rows as wide as the model.
        """
        if elements is None:
            elements = self.cut.residual_tokens * self.architecture.hidden_size
        join = (self.stream(elements, reads=2, writes=1),) if joins else ()
        if self.kernels.fused_norm:
            forward, backward = self.stream(elements, reads=1, writes=1), self.stream(elements, reads=4, writes=1)
            saved = elements * self.width
        else:
            # PyTorch's own operators in fp32, counted in 16-bit passes: cast, square, mean, scale, cast back, weight.
            # Autograd runs each one's backward by itself: of the weight two products and a sum (4, 2), a cast (1, 2),
            # of the scale two products and a sum (8, 4), of the mean and the square a quotient, a power and two
            # products (8, 8), the sum of both ways (4, 2), a cast (2, 1).
            forward, backward = self.stream(elements, reads=10, writes=8), self.stream(elements, reads=27, writes=19)
            saved = elements * (2 * self.width + bytes_per_element("fp32"))  # also the fp32 copy and the scaled row
        return TrainingOperator(
            name=name, part="norm", forward=(forward,), backward_input=(backward, *join), saved_bytes=saved,
            input_bytes=saved,
        )  # fmt: skip

    def column_parallel(
        self, name: str, *, n: int, k: int, bias: bool, narrow: bool = True, fed_by: str = ""
    ) -> TrainingOperator:
        """A matrix divided by columns: all ranks need the whole input, and add up its gradient.

        narrow: in fp8 where the plan's products are.
        """
        cut, kept = self.cut, self.kept_width(narrow=narrow)
        divided = cut.sequence_parallel and cut.tp > 1
        rows = cut.residual_tokens if divided else float(cut.tokens)  # turned to fp8 before they are gathered
        saved = cut.residual_tokens * k * kept
        gathered = self.collective("all_gather", cut.tokens * k * kept) if divided else None
        summed = cut.tokens * k * self.width
        return TrainingOperator(
            name=name,
            part="matrix",
            forward=(
                *self.turned_input(rows * k, narrow=narrow),
                self.gemm(cut.tokens, n, k, narrow=narrow),
                *self._bias(n, bias, reads=1, writes=1),
            ),
            backward_input=(
                *self.turned_gradient(float(cut.tokens) * n, narrow=narrow), self.gemm(cut.tokens, k, n, narrow=narrow)
            ),
            backward_weight=self.weight_gradient(cut.tokens, n, k, bias=bias, narrow=narrow),
            saved_bytes=saved,
            input_bytes=saved,
            fed_by=fed_by,
            output_bytes=cut.tokens * n * self.width,
            forward_before=gathered,
            beside_input=gathered,
            beside_weight=self.collective("reduce_scatter" if divided else "all_reduce", summed),
        )  # fmt: skip

    def with_bias(self, product: TrainingOperator, n: int) -> TrainingOperator:
        """The product with a bias on `n` of its columns, added and summed up by passes of their own."""
        forward, backward = self._bias(n, True, reads=1, writes=1), self._bias(n, True, reads=1, writes=0)
        return replace(product, forward=product.forward + forward, backward_weight=product.backward_weight + backward)

    def row_parallel(
        self, name: str, *, n: int, k: int, bias: bool, narrow: bool = True, fed_by: str = ""
    ) -> TrainingOperator:
        """A matrix divided by rows: the ranks add up its output."""
        cut, kept = self.cut, self.kept_width(narrow=narrow)
        divided = cut.sequence_parallel and cut.tp > 1
        rows = cut.residual_tokens if divided else float(cut.tokens)
        saved = cut.tokens * k * kept
        summed = cut.tokens * n * self.width
        return TrainingOperator(
            name=name,
            part="matrix",
            forward=(*self.turned_input(float(cut.tokens) * k, narrow=narrow),
                     self.gemm(cut.tokens, n, k, narrow=narrow)),
            backward_input=(*self.turned_gradient(rows * n, narrow=narrow), self.gemm(cut.tokens, k, n, narrow=narrow)),
            backward_weight=self.weight_gradient(cut.tokens, n, k, bias=bias, narrow=narrow),
            saved_bytes=saved,
            input_bytes=saved,
            fed_by=fed_by,
            output_bytes=cut.tokens * n * self.width,
            forward_after=self.collective("reduce_scatter" if divided else "all_reduce", summed),
            backward_before=self.collective("all_gather", cut.tokens * n * kept) if divided else None,
        )  # fmt: skip

    def local(
        self, name: str, *, rows: float, n: int, k: int, count: float = 1, narrow: bool = True, fed_by: str = ""
    ) -> TrainingOperator:
        """A product of a rank's own rows, alone; or `count` of them, over which the rows are divided evenly."""
        saved, each = rows * k * self.kept_width(narrow=narrow), rows / count
        return TrainingOperator(
            name=name,
            part="matrix",
            forward=(
                *self.turned_input(rows * k, narrow=narrow, count=count),
                self.gemm(each, n, k, narrow=narrow, count=count),
            ),
            backward_input=(
                *self.turned_gradient(rows * n, narrow=narrow, count=count),
                self.gemm(each, k, n, narrow=narrow, count=count),
            ),
            backward_weight=self.weight_gradient(rows, n, k, bias=False, narrow=narrow, count=count),
            saved_bytes=saved,
            input_bytes=saved,
            fed_by=fed_by,
            output_bytes=rows * n * self.width,
        )  # fmt: skip

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

    def activation(
        self, elements: float, *, gated: bool, bias: bool = False, name: str = "activation", extra_reads: float = 0.0
    ) -> TrainingOperator:
        """Its input is kept; its output is the next product's input, which keeps it."""
        up = 2 if gated else 1
        apart = 0 if self.kernels.fused_bias else (1 if bias or gated else 0)
        forward = self.stream(elements, reads=up + apart + extra_reads, writes=1 + apart, flop_per_element=8.0)
        backward = self.stream(
            elements, reads=1 + up + 2 * apart + extra_reads, writes=up + apart, flop_per_element=16.0
        )
        sums = (self.stream(elements, reads=1, writes=0),) if bias else ()
        width = self.kept_width() if self.kernels.fp8_activation_input else self.width
        saved = (up + apart) * elements * width
        return TrainingOperator(
            name=name,
            part="mlp",
            forward=(forward,),
            backward_input=(backward,),
            backward_weight=sums,
            saved_bytes=saved,
            input_bytes=saved,
        )

    def gemm(self, m: float, n: float, k: float, *, narrow: bool = True, count: float = 1) -> Gemm | Repeated:
        """(m, k) times (k, n) in the cut's format, or `count` such products."""
        fp8 = narrow and self.cut.fp8 is not None
        dtype = FP8 if fp8 else self.cut.dtype
        product = Gemm(m=m, n=n, k=k, dtype=dtype, weight_dtype=dtype, quantised=fp8)
        return product if count == 1 else Repeated(op=product, count=count)

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

    def turned_input(self, elements: float, *, narrow: bool, count: float = 1) -> Ops:
        """A product's input to fp8, or those of `count` products."""
        recipe = self.cut.fp8 if narrow else None
        return () if recipe is None else self._turned(elements, recipe.input_reads, recipe.input_writes, count)

    def turned_gradient(self, elements: float, *, narrow: bool, count: float = 1) -> Ops:
        """The gradient of a product's output to fp8, or those of `count` products."""
        recipe = self.cut.fp8 if narrow else None
        return () if recipe is None else self._turned(elements, recipe.gradient_reads, recipe.gradient_writes, count)

    def weight_gradient(self, rows: float, n: int, k: int, *, bias: bool, narrow: bool = True, count: float = 1) -> Ops:
        """The product of input and gradient, added to the buffer by itself or by a pass of its own, and the bias's."""
        recipe = self.cut.fp8 if narrow else None
        ops: list[TrainingOp] = []
        if recipe is not None and recipe.again_reads:
            ops.extend(self._turned(rows * k, recipe.again_reads, recipe.again_writes))
        ops.append(self.gemm(k, n, rows / count, narrow=narrow, count=count))
        gradient = bytes_per_element(self.kernels.gradient_dtype) / self.width
        elements = float(n) * k * count
        if self.kernels.fused_weight_gradient:
            ops.append(self.stream(elements, reads=gradient, writes=gradient - 1.0))
        else:
            ops.append(self.stream(elements, reads=1 + gradient, writes=gradient))
        ops.extend(self._bias(n, bias, reads=1, writes=0))
        return tuple(ops)

    def _turned(self, elements: float, reads: float, writes: float, count: float = 1) -> Ops:
        recipe = self.cut.fp8
        if recipe is None or count == 1 or not self.cut.experts.passes.turned_apart:
            return (self.stream(elements, reads=reads, writes=writes),)
        kernels = recipe.kernels
        one = self.stream(elements / count, reads=reads / kernels, writes=writes / kernels)
        return (Repeated(op=one, count=count * kernels),)

    def _bias(self, n: int, bias: bool, *, reads: float, writes: float) -> Ops:
        return (self.stream(self.cut.tokens * n, reads=reads, writes=writes),) if bias else ()
