"""What a multi-token-prediction module computes beside its layer (DeepSeek-V3, arXiv 2412.19437, section 2.2).

It joins the output of the layers below with the embedding of the next token, both normed, projects them to the model's
width, runs one more layer like the last, and the output projection and loss that it shares with the model.
"""

from __future__ import annotations

from workloads.models.architecture import ModelArchitecture
from workloads.training.cut import Cut, Kernels
from workloads.training.ends import embedding_operators, head_operators
from workloads.training.operator import TrainingOperator
from workloads.training.products import ProductWriter


def mtp_operators(
    architecture: ModelArchitecture, cut: Cut, kernels: Kernels, *, vocabulary: int
) -> tuple[TrainingOperator, ...]:
    """All but its layer; vocabulary: rows of the token table, padded."""
    write = ProductWriter(architecture=architecture, cut=cut, kernels=kernels)
    rows, hidden = cut.residual_tokens, architecture.hidden_size
    joined = write.stream(2.0 * rows * hidden, reads=1, writes=1)
    join = TrainingOperator(name="mtp_join", part="residual", forward=(joined,), backward_input=(joined,))
    return (
        *embedding_operators(architecture, cut, kernels),
        write.norm("mtp_hidden_norm"),
        write.norm("mtp_token_norm", joins=False),
        join,
        write.local("mtp_proj", rows=rows, n=hidden, k=2 * hidden),
        *head_operators(architecture, cut, kernels, vocabulary=vocabulary),
    )


def mtp_parameters(architecture: ModelArchitecture) -> float:
    """Beside those of its layer: the projection and three norms; tables are the model's own."""
    return 2.0 * architecture.hidden_size**2 + 3.0 * architecture.hidden_size
