"""One pipeline stage's work on a micro-batch: seconds forward and backward, activations kept, parameters held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hardware_models.dtypes import bytes_per_element
from policies.parallelism.recompute import Recompute
from sim.training.pricing import NOTHING, OperatorPrices, Spent, total
from workloads.models.architecture import LayerGroup, ModelArchitecture
from workloads.models.stages import LayerRange
from workloads.models.weights import Weight, embedding_weights, head_weights, layer_weights
from workloads.training.cut import Cut, Kernels
from workloads.training.ends import embedding_operators, head_operators
from workloads.training.layer import layer_operators
from workloads.training.operator import TrainingOperator


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWork:
    """Of one rank and micro-batch; recomputation is part of `backward_input`."""

    forward: Spent
    backward_input: Spent
    backward_weight: Spent
    recompute: Spent
    activation_bytes: float  # kept from forward to backward
    weight_input_bytes: float  # the part of it that gradients of weights need
    working_bytes: float  # more, while a pass runs: one layer computed again, gradients of activations
    parameters: float  # on this rank
    tied_bytes: float = 0.0  # gradients of a table that the first and last stage share

    @property
    def backward(self) -> Spent:
        """Both halves."""
        return self.backward_input.plus(self.backward_weight)


@dataclass(frozen=True, slots=True)
class Pass:
    """Operators one after another, priced."""

    operators: tuple[TrainingOperator, ...]
    forward: Spent
    backward_input: Spent
    backward_weight: Spent

    @classmethod
    def of(cls, operators: tuple[TrainingOperator, ...], prices: OperatorPrices) -> Pass:
        """Priced on a rank."""
        return cls(
            operators,
            total(prices.forward(one) for one in operators),
            total(prices.backward_input(one) for one in operators),
            total(prices.backward_weight(one) for one in operators),
        )

    @property
    def weight_input_bytes(self) -> float:
        """Kept for gradients of weights alone: what products were given, and the gradients of what they gave (M_W of
        arXiv 2401.10241, table 1: 32 s b h a layer of GPT).
        """
        products = [one for one in self.operators if one.part == "matrix"]
        return sum(one.saved_bytes + one.output_bytes for one in products)


class StagePricer:
    """Prices any stage of a model for one cut; layers of a kind are priced once."""

    def __init__(
        self,
        architecture: ModelArchitecture,
        cut: Cut,
        kernels: Kernels,
        prices: OperatorPrices,
        recompute: Recompute,
    ) -> None:
        self.architecture, self.cut, self.kernels = architecture, cut, kernels
        self.prices, self.recompute = prices, recompute
        self.vocabulary = padded_vocabulary(architecture.vocab_size, cut.tp)
        width = bytes_per_element(cut.dtype)
        self.input_bytes = cut.residual_tokens * architecture.hidden_size * width  # of a layer, and of a send
        self._layers = {
            group: Pass.of(layer_operators(architecture, group, cut, kernels), prices) for group in architecture.groups
        }
        self._ends = (
            Pass.of(embedding_operators(architecture, cut, kernels), prices),
            Pass.of(head_operators(architecture, cut, kernels, vocabulary=self.vocabulary), prices),
        )

    def stage(self, layers: LayerRange, *, first: bool | None = None, last: bool | None = None) -> StageWork:
        """A range of layers, which may be empty; with the embedding on the first stage and the head on the last: those
        with the first and the last layer, unless said otherwise.
        """
        first = layers.start == 0 if first is None else first
        last = layers.stop == layers.total if last is None else last
        groups = [group for group in self.architecture.groups for _ in range(layers.count(group))]
        work = self._of_layers(groups)
        ends = [end for end, here in zip(self._ends, (first, last), strict=True) if here]
        for end in ends:
            saved = sum(one.saved_bytes for one in end.operators)
            work = replace(
                work,
                forward=work.forward.plus(end.forward),
                backward_input=work.backward_input.plus(end.backward_input),
                backward_weight=work.backward_weight.plus(end.backward_weight),
                activation_bytes=work.activation_bytes + saved,
                weight_input_bytes=work.weight_input_bytes + end.weight_input_bytes,
            )
        if last:  # logits beside what is kept of them, or their gradient
            logits = self.cut.tokens * self.vocabulary / self.cut.tp
            size = bytes_per_element(self.cut.dtype) if self.kernels.fused_loss else 6.0
            work = replace(work, working_bytes=max(work.working_bytes, logits * size))
        tied = self.architecture.tie_word_embeddings and (first != last)
        return replace(
            work,
            parameters=self._parameters(layers, first=first, last=last),
            tied_bytes=self._table() * 4.0 if tied else 0.0,
        )

    def _of_layers(self, groups: list[LayerGroup]) -> StageWork:
        forward = backward_input = backward_weight = again = NOTHING
        saved = kept = working = 0.0
        for index, group in enumerate(groups):
            layer = self._layers[group]
            repeated = self.recompute.again(layer.operators, index)
            if repeated == layer.operators:
                more = layer.forward
                working = max(working, sum(one.saved_bytes for one in layer.operators))
            else:
                more = total(self.prices.forward(one) for one in repeated)
                working = max(working, sum(one.saved_bytes for one in repeated))
            forward = forward.plus(layer.forward)
            backward_input = backward_input.plus(layer.backward_input).plus(more)
            backward_weight = backward_weight.plus(layer.backward_weight)
            again = again.plus(more)
            saved += self.recompute.saved_bytes(layer.operators, self.input_bytes, index)
            kept += layer.weight_input_bytes if not repeated else 0.0
        return StageWork(
            forward=forward,
            backward_input=backward_input,
            backward_weight=backward_weight,
            recompute=again,
            activation_bytes=saved,
            weight_input_bytes=min(kept, saved),
            working_bytes=working + self._gradients(groups),
            parameters=0.0,
        )

    def _gradients(self, groups: Iterable[LayerGroup]) -> float:
        """Gradients of activations alive at once: of the widest product's output and input."""
        widest = 0.0
        for group in set(groups):
            for one in self._layers[group].operators:
                widest = max(widest, one.saved_bytes if one.part in ("mlp", "matrix", "attention_core") else 0.0)
        return 2.0 * widest

    def _parameters(self, layers: LayerRange, *, first: bool, last: bool) -> float:
        architecture, tp = self.architecture, self.cut.tp
        count = 0.0 + sum(
            layers.count(group) * _elements(layer_weights(architecture, group, tp)) for group in architecture.groups
        )
        if first:
            count += _elements(embedding_weights(architecture, tp)) + self._padding()
        if last:
            shares = first and architecture.tie_word_embeddings
            count += _elements(head_weights(architecture, tp, shares_embedding=shares))
            count += 0 if shares else self._padding()
        return count

    def _padding(self) -> float:
        """Rows that make the vocabulary divisible, less those that the division itself pads."""
        rows = self.vocabulary // self.cut.tp - -(-self.architecture.vocab_size // self.cut.tp)
        return float(rows * self.architecture.hidden_size)

    def _table(self) -> float:
        return self.vocabulary / self.cut.tp * self.architecture.hidden_size


def padded_vocabulary(vocab_size: int, tp: int, multiple: int = 128) -> int:
    """Rows of the token table: Megatron-LM's make-vocab-size-divisible-by, times the tensor-parallel ranks."""
    block = multiple * tp
    return -(-vocab_size // block) * block


def _elements(weights: list[Weight]) -> int:
    return sum(weight.elements for weight in weights)
