"""What happens to rows of experts beside products and exchanges: scores to maps of rows, maps of those that arrive,
rows to whole blocks and back, biases.

Kernels are counted in the source of Megatron Core 0.16.1 (megatron/core/transformer/moe: router.py, moe_utils.py,
token_dispatcher.py, experts.py), an operator of PyTorch as one, one that picks elements by a mask as four.
"""

from __future__ import annotations

from dataclasses import replace

from hardware_models.dtypes import bytes_per_element
from workloads.models.architecture import MoeMlp
from workloads.training.operator import Repeated, TrainingOperator
from workloads.training.products import ProductWriter

WIDE = 2.0  # 16-bit elements in one of fp32, which the router's scores are
INDEX = 4.0  # and in one of the 64-bit numbers that name tokens and experts
FUSED_SCORES = 10.0  # passes over scores: cast, softmax, top k, sums for balance, maps of rows; assumed
# top k and its softmax 3, weights and map 7, the same for the balancing loss 8, its sums and their log 10, DeepEP's 2
SCORES = 30.0
SCORES_BACK = 14.0  # of weights 5, of the loss 8, to 16 bits 1
SCORES_MOVED = 0.35  # of all scores that such a pass reads, and writes: others are of chosen ones, or of sums
# layout and counts 2, two fields of zeros, a mask, two picks 8, numbers of rows 3, two writes, to a mask, permute's 3
MAPS = 22.0
MAPS_BACK = 8.0  # weights to where they were picked from
MASK_WAITS = 3  # two picks by a mask, and rows repeated as often as the mask says
ONE_MAP = 4.0  # one kernel makes the maps; permute's own 3


def scored(write: ProductWriter, product: TrainingOperator, spec: MoeMlp) -> TrainingOperator:
    """The router's product, and from its scores weights and a map of rows; in 16 bits, scores then in fp32."""
    scores = write.cut.residual_tokens * spec.experts
    if write.cut.experts.passes.fused_router:
        step = write.stream(scores, reads=WIDE, writes=WIDE)
        chosen, back = Repeated(op=step, count=FUSED_SCORES), Repeated(op=step, count=FUSED_SCORES / 2)
    else:
        step = write.stream(scores, reads=WIDE * SCORES_MOVED, writes=WIDE * SCORES_MOVED)
        chosen, back = Repeated(op=step, count=SCORES), Repeated(op=step, count=SCORES_BACK)
    return replace(
        product,
        forward=(*product.forward, chosen),
        backward_input=(back, *product.backward_input),
        saved_bytes=product.saved_bytes + scores * bytes_per_element("fp32"),
    )


def mapped(write: ProductWriter, spec: MoeMlp) -> list[TrainingOperator]:
    """Which of its experts each row that arrived goes to; the host waits for how many rows each has."""
    share = write.cut.experts
    waits = int(share.passes.counts_on_host)
    if not share.once_per_server:  # rows arrive one by one: their counts say all
        return [TrainingOperator(name="maps", part="experts", host_waits=waits)] if waits else []
    numbers = write.cut.residual_tokens * share.visited_ranks(spec) * spec.top_k
    step = write.stream(numbers, reads=INDEX / 2, writes=INDEX / 2)
    if share.passes.fused_maps:
        kernels, back = ONE_MAP, 1.0
    else:
        kernels, back, waits = MAPS, MAPS_BACK, waits + MASK_WAITS
    return [
        TrainingOperator(
            name="maps",
            part="experts",
            forward=(Repeated(op=step, count=kernels),),
            backward_input=(Repeated(op=step, count=back),),
            host_waits=waits,
        )
    ]


def padded(write: ProductWriter, name: str, rows: float) -> list[TrainingOperator]:
    """Rows copied so that each expert has a multiple of 16, as fp8 products want, or back; backward their gradients."""
    if write.cut.fp8 is None or not write.cut.experts.passes.padded_rows:
        return []
    copied = write.stream(rows * write.architecture.hidden_size, reads=1, writes=1)
    return [TrainingOperator(name=name, part="experts", forward=(copied,), backward_input=(copied,))]


def biased(write: ProductWriter, spec: MoeMlp, rows: float, local: float) -> list[TrainingOperator]:
    """Biases of a rank's `local` experts' outputs, each times a token's weight, an expert at a time.

    Forward the product of both in fp32, the sum, all joined, and back to 16 bits; backward the gradient in fp32, its
    part of the output, two products with it and their sums, and all joined.
    """
    if not spec.expert_bias or not write.cut.experts.passes.bias_apart:
        return []
    elements = rows * write.architecture.hidden_size
    each = elements / local
    forward = (
        Repeated(op=write.stream(each, reads=(1 + WIDE) / 2, writes=WIDE), count=2 * local),
        write.stream(elements, reads=WIDE, writes=WIDE),
        write.stream(elements, reads=WIDE, writes=1),
    )
    backward = (
        write.stream(elements, reads=1, writes=WIDE),
        Repeated(op=write.stream(each, reads=WIDE, writes=(1 + 2 * WIDE) / 5), count=5 * local),
        write.stream(elements, reads=1, writes=1),
    )
    return [TrainingOperator(name="experts_bias", part="experts", forward=forward, backward_input=backward)]
