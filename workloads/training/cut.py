"""How one rank's share of a micro-batch is cut, and how the software computes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from workloads.training.context import ContextParallel, Ring
from workloads.training.expert_share import ExpertShare
from workloads.training.precision import Fp8Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One rank's share of a layer for one micro-batch."""

    micro_batch: int  # sequences
    seq_length: int  # tokens of each, over all context-parallel ranks
    tp: int = 1
    cp: int = 1
    context: ContextParallel = field(default_factory=Ring)  # how its ranks share a sequence
    sequence_parallel: bool = False  # norms, dropouts and residuals divided over tensor-parallel ranks, by tokens
    attention: str = "flash2"  # "standard", or an implementation of `AttentionTraining`
    dtype: str = "bf16"
    fp8: Fp8Recipe | None = None  # of matrix products; None: they are in `dtype`
    experts: ExpertShare = field(default_factory=ExpertShare)
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
    fused_softmax_keys: int = 16_384  # the most that such a kernel takes
    fused_gate: bool = True  # an MLP's gate and its up projection are one product
    fused_bias: bool = True  # bias with GeLU; bias, dropout and residual sum
    fused_norm: bool = True  # one kernel a norm, no copies in fp32 between
    fused_weight_gradient: bool = True  # the product adds to the fp32 gradient itself
    fused_rotary: bool = True
    fused_loss: bool = False  # softmax and loss over the vocabulary without copies of the logits in fp32
    parallel_loss: bool = True  # each tensor-parallel rank takes its part of the vocabulary; else all gather the logits
    fp8_activation_input: bool = False  # where products are in fp8, what a gated activation was given is kept so too
    gradient_dtype: str = "fp32"  # of the buffer that micro-batches' gradients are added up in
