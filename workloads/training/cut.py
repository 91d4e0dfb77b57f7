"""How one rank's share of a micro-batch is cut, and how the software computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One rank's share of a layer for one micro-batch."""

    micro_batch: int  # sequences
    seq_length: int  # tokens of each, over all context-parallel ranks
    tp: int = 1
    cp: int = 1
    sequence_parallel: bool = False  # norms, dropouts and residuals divided over tensor-parallel ranks, by tokens
    attention: str = "flash2"  # "standard", or an implementation of `AttentionTraining`
    dtype: str = "bf16"
    dropout: bool = False

    @property
    def queries(self) -> int:
        """Tokens of a sequence on this rank."""
        return self.seq_length // self.cp

    @property
    def tokens(self) -> int:
        """Rows of a matrix product on this rank."""
        return self.micro_batch * self.queries

    @property
    def residual_tokens(self) -> float:
        """Rows of a norm or a residual sum on this rank."""
        return self.tokens / (self.tp if self.sequence_parallel else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Which passes a framework fuses: what is fused is neither written to memory nor read again."""

    fused_softmax: bool = True  # scale, causal mask and softmax in one kernel that skips the masked half's reads
    fused_bias: bool = True  # bias with GeLU; bias, dropout and residual sum
    fused_norm: bool = True  # one kernel a norm, no copies in fp32 between
    fused_weight_gradient: bool = True  # the product adds to the fp32 gradient itself
    fused_rotary: bool = True
    fused_loss: bool = False  # softmax and loss over the vocabulary without copies of the logits in fp32
    gradient_dtype: str = "fp32"  # of the buffer that micro-batches' gradients are added up in
