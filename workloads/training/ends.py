"""What stands before the first layer and after the last in training: embedding, output projection and loss."""

from __future__ import annotations

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Embedding
from workloads.models.architecture import ModelArchitecture
from workloads.training.cut import Cut, Kernels
from workloads.training.operator import TrainingOperator
from workloads.training.products import ProductWriter


def embedding_operators(architecture: ModelArchitecture, cut: Cut, kernels: Kernels) -> tuple[TrainingOperator, ...]:
    """Rows of the token table, which is divided over ranks by vocabulary; backward adds to the rows."""
    write = ProductWriter(architecture=architecture, cut=cut, kernels=kernels)
    width = bytes_per_element(cut.dtype)
    gather = Embedding(tokens=float(cut.tokens), width=architecture.hidden_size, dtype=cut.dtype)
    tables = 2 if architecture.learned_positions else 1
    payload = cut.tokens * architecture.hidden_size * width
    divided = cut.sequence_parallel and cut.tp > 1
    dropped = cut.residual_tokens * architecture.hidden_size if cut.dropout else 0.0
    drop = (write.stream(dropped, reads=1, writes=1.5),) if dropped else ()
    drop_back = (write.stream(dropped, reads=1.5, writes=1),) if dropped else ()
    return (
        TrainingOperator(
            name="embedding",
            part="embedding",
            forward=(gather,) * tables + drop,
            backward_input=drop_back,
            backward_weight=(gather,) * tables,
            saved_bytes=dropped,
            forward_after=write.collective("reduce_scatter" if divided else "all_reduce", payload),
            backward_before=write.collective("all_gather", payload) if divided else None,
        ),
    )


def head_operators(
    architecture: ModelArchitecture, cut: Cut, kernels: Kernels, *, vocabulary: int
) -> tuple[TrainingOperator, ...]:
    """Final norm, logits of `vocabulary` rows (padded, over all tensor-parallel ranks) and their loss."""
    write = ProductWriter(architecture=architecture, cut=cut, kernels=kernels)
    norm = (write.norm("final_norm"),) if architecture.final_norm else ()
    shard, hidden = vocabulary // cut.tp, architecture.hidden_size
    head = write.column_parallel("lm_head", n=shard, k=hidden, bias=False, narrow=False)
    whole = not kernels.parallel_loss and cut.tp > 1
    return (*norm, head, _whole_loss(write, vocabulary) if whole else _parallel_loss(write, shard))


def loss_working_bytes(cut: Cut, kernels: Kernels, *, vocabulary: int) -> float:
    """More than the loss keeps, while its backward runs: logits beside the gradient of what was made of them."""
    if not kernels.parallel_loss:
        # the head's 16-bit output and the copy in fp32 whose log-softmax is kept; gradients of that and of the copy
        return cut.tokens * float(vocabulary) * (bytes_per_element(cut.dtype) + 3.0 * bytes_per_element("fp32"))
    logits = cut.tokens * float(vocabulary) / cut.tp
    both = bytes_per_element("fp32") + bytes_per_element(cut.dtype)
    return logits * (bytes_per_element(cut.dtype) if kernels.fused_loss else both)


def _parallel_loss(write: ProductWriter, shard: int) -> TrainingOperator:
    """Of a rank's part of the vocabulary; ranks exchange a maximum and two sums a token."""
    cut = write.cut
    logits, sums = float(cut.tokens) * shard, cut.tokens * bytes_per_element("fp32")
    if write.kernels.fused_loss:
        forward, backward = write.stream(logits, reads=1, writes=0), write.stream(logits, reads=1, writes=1)
        saved = logits * bytes_per_element(cut.dtype)
    else:  # cast to fp32, maximum, difference, exponential, sum, quotient; backward scales and casts
        forward, backward = write.stream(logits, reads=11, writes=8), write.stream(logits, reads=4, writes=3)
        saved = logits * bytes_per_element("fp32")
    return TrainingOperator(
        name="loss",
        part="head",
        forward=(forward,),
        backward_input=(backward,),
        saved_bytes=saved,
        forward_after=write.collective("all_reduce", 3 * sums),
    )


def _whole_loss(write: ProductWriter, vocabulary: int) -> TrainingOperator:
    """Of the whole vocabulary on every rank, by PyTorch's own operators: logits are gathered, cast to fp32, and their
    log-softmax is kept; backward makes gradients of both, casts, and takes its part.
    """
    cut = write.cut
    logits = float(cut.tokens) * vocabulary
    return TrainingOperator(
        name="loss",
        part="head",
        forward=(write.stream(logits, reads=5, writes=4),),
        backward_input=(write.stream(logits, reads=6, writes=5),),
        saved_bytes=logits * bytes_per_element("fp32"),
        forward_before=write.collective("all_gather", logits * bytes_per_element(cut.dtype)),
    )
