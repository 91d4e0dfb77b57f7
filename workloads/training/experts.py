"""A mixture-of-experts layer in training: router, rows to their experts and back, experts, shared experts.

Experts of a rank get as many rows as each other; ranks wait for the busiest of them. The products of a rank's experts
are so many dense products (Transformer Engine's GroupedLinear; against TensorRT-LLM's grouped kernel on H100, of 512 to
4,096 rows an expert, medians of 1.02 in bf16 and 0.95 in fp8). A token's weights for its experts are multiplied in with
the activation (Megatron Core), so that outputs of experts need not be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_models.ops import Collective, Elementwise
from workloads.models.architecture import MoeMlp
from workloads.training.expert_passes import biased, mapped, padded, scored
from workloads.training.expert_share import ExpertShare
from workloads.training.operator import ExpertExchange, TrainingOperator
from workloads.training.products import ProductWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertWriter(ProductWriter):
    """Writes the feed-forward half of a layer with experts."""

    @property
    def share(self) -> ExpertShare:
        """How experts are spread."""
        return self.cut.experts

    def mlp(self, spec: MoeMlp) -> list[TrainingOperator]:
        """Norm, router, exchange, experts, exchange, shared experts, and the sum with what came in."""
        hidden, up = self.architecture.hidden_size, 2 if spec.gated else 1
        rows, local = self.rows(spec), spec.experts / self.share.ep
        width = spec.expert_intermediate_size // self.share.etp
        return [
            self.norm("mlp_norm"),
            self._router(spec),
            self._dispatch(spec),
            *mapped(self, spec),
            self._gathered("experts_gather", spec),
            *padded(self, "experts_pad", rows),
            self.local("experts_up_proj", rows=rows, n=up * width, k=hidden, count=local),
            self.activation(rows * width, gated=spec.gated, bias=spec.expert_bias, name="experts_activation"),
            self.local("experts_down_proj", rows=rows, n=hidden, k=width, count=local, fed_by="experts_activation"),
            *biased(self, spec, rows, local),
            *padded(self, "experts_unpad", rows),
            self._scattered("experts_scatter", spec),
            self._combine(spec),
            *self._shared(spec),
            self.residual("mlp_residual", bias=False),
        ]

    def rows(self, spec: MoeMlp) -> float:
        """Of the busiest rank's experts: on average as many as it sends, of all ranks that share an expert."""
        return self.cut.residual_tokens * spec.top_k * self.share.etp * self.share.busiest

    def _router(self, spec: MoeMlp) -> TrainingOperator:
        """Scores, their largest, and where each row goes."""
        product = self.local(
            "router", rows=self.cut.residual_tokens, n=spec.experts, k=self.architecture.hidden_size, narrow=False,
            fed_by="mlp_norm",
        )  # fmt: skip
        return scored(self, product, spec)

    def _dispatch(self, spec: MoeMlp) -> TrainingOperator:
        """Rows are copied in the order of the ranks they go to, and, on arrival, in that of its experts; backward a
        token's gradients come back and are added up.
        """
        return TrainingOperator(
            name="dispatch",
            part="experts",
            forward=self._moves(spec, combining=False),
            backward_input=self._moves(spec, combining=True),
            forward_after=self._exchange(spec, narrow=self.share.fp8_dispatch),
            backward_before=self._exchange(spec, narrow=False),
        )

    def _combine(self, spec: MoeMlp) -> TrainingOperator:
        """The way back; backward gradients go out as rows did."""
        return TrainingOperator(
            name="combine",
            part="experts",
            forward=self._moves(spec, combining=True),
            backward_input=self._moves(spec, combining=False),
            forward_before=self._exchange(spec, narrow=False),
            backward_before=self._exchange(spec, narrow=self.share.fp8_dispatch),
        )

    def _moves(self, spec: MoeMlp, *, combining: bool) -> tuple[Elementwise, ...]:
        """Copies of rows: a token's once for each of its experts, or added up; and among a rank's experts, if it has
        several. Where rows leave once for a server, the exchange's kernel does the first itself (DeepEP).
        """
        hidden, tokens = self.architecture.hidden_size, self.cut.residual_tokens
        sent, arrived = tokens * spec.top_k * hidden, self.rows(spec) * hidden
        own = tokens * hidden / sent
        passes = []
        if not self.share.once_per_server:
            reads, writes = (1.0, own) if combining else (own, 1.0)
            passes.append(self.stream(sent, reads=reads, writes=writes))
        if self.share.once_per_server or spec.experts > self.share.ep > 1:
            passes.append(self.stream(arrived, reads=1, writes=1))
        return tuple(passes)

    def _exchange(self, spec: MoeMlp, *, narrow: bool) -> Collective | None:
        share = self.share
        if share.ep == 1:
            return None
        row = self.architecture.hidden_size * self.kept_width(narrow=narrow)
        tokens = self.cut.residual_tokens
        arriving = tokens * share.busiest  # on the busiest rank
        if not share.once_per_server:
            return ExpertExchange(kind="all_to_all", payload_bytes=arriving * spec.top_k * row, ranks=share.ep)
        return ExpertExchange(
            kind="all_to_all",
            payload_bytes=arriving * share.visited_ranks(spec) * row,
            ranks=share.ep,
            across_bytes=tokens * share.visited_servers(spec) * row,
        )

    def _gathered(self, name: str, spec: MoeMlp) -> TrainingOperator:
        """Ranks that share an expert need all their rows."""
        payload = self.rows(spec) * self.architecture.hidden_size
        return TrainingOperator(
            name=name,
            part="experts",
            forward_before=self._among_shares("all_gather", payload * self.kept_width()),
            backward_before=self._among_shares("reduce_scatter", payload * self.width),
        )

    def _scattered(self, name: str, spec: MoeMlp) -> TrainingOperator:
        """And add up what each computed of them."""
        payload = self.rows(spec) * self.architecture.hidden_size
        return TrainingOperator(
            name=name,
            part="experts",
            forward_before=self._among_shares("reduce_scatter", payload * self.width),
            backward_before=self._among_shares("all_gather", payload * self.kept_width()),
        )

    def _among_shares(self, kind: str, payload_bytes: float) -> Collective | None:
        return self.collective(kind, payload_bytes) if self.share.etp > 1 else None

    def _shared(self, spec: MoeMlp) -> list[TrainingOperator]:
        """Experts that every token visits, as one dense MLP."""
        if not spec.shared_intermediate_size:
            return []
        hidden, up = self.architecture.hidden_size, 2 if spec.gated else 1
        width = spec.shared_intermediate_size // self.cut.tp
        above = self.column_parallel("shared_up_proj", n=up * width, k=hidden, bias=False, fed_by="mlp_norm")
        if self.cut.fp8 is None:  # the router keeps the same input
            above = replace(above, saved_bytes=0.0, input_bytes=0.0)
        operators = [
            above,
            self.activation(self.cut.tokens * width, gated=spec.gated, name="shared_activation"),
            self.row_parallel("shared_down_proj", n=hidden, k=width, bias=False, fed_by="shared_activation"),
        ]
        elements = self.cut.residual_tokens * hidden
        joined = self.stream(elements, reads=2, writes=1)
        if spec.shared_gate:
            operators.append(
                self.local("shared_gate", rows=self.cut.residual_tokens, n=1, k=hidden, narrow=False, fed_by="mlp_norm")
            )
        operators.append(
            TrainingOperator(name="shared_sum", part="experts", forward=(joined,), backward_input=(joined,))
        )
        return operators
