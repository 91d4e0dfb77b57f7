"""One pipeline stage's work on a micro-batch: seconds forward and backward, activations kept, parameters held."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Gemm
from policies.parallelism.recompute import Recompute
from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from sim.training.pricing import NOTHING, OperatorPrices, Spent, total
from workloads.models.architecture import LayerGroup, ModelArchitecture
from workloads.models.stages import LayerRange
from workloads.models.weights import Weight, embedding_weights, head_weights, layer_weights
from workloads.training.cut import Cut, Kernels
from workloads.training.ends import embedding_operators, head_operators, loss_working_bytes
from workloads.training.layer import layer_operators
from workloads.training.mtp import mtp_operators, mtp_parameters
from workloads.training.operator import TrainingOperator

GROWING = ("dispatch", "combine")  # operators that take as long as the rows of a rank's experts are many, beside theirs


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
    expert_parameters: float = 0.0  # of them, those of experts, of which there are fewer copies
    tied_bytes: float = 0.0  # gradients of a table that the first and last stage share

    @property
    def backward(self) -> Spent:
        """Both halves."""
        return self.backward_input.plus(self.backward_weight)

    def by_pass(self) -> dict[str, Spent]:
        """What each kind of pass spends."""
        return {
            FORWARD: self.forward,
            BACKWARD: self.backward,
            BACKWARD_INPUT: self.backward_input,
            BACKWARD_WEIGHT: self.backward_weight,
        }


@dataclass(frozen=True, slots=True)
class Pass:
    """Operators one after another, priced."""

    operators: tuple[TrainingOperator, ...]
    forward: Spent
    backward_input: Spent
    backward_weight: Spent

    @classmethod
    def of(cls, operators: tuple[TrainingOperator, ...], prices: OperatorPrices) -> Pass:
        """Priced on a rank. Where the host waits for counts in every layer, it launches no layer ahead forward."""
        forward = total(prices.forward(one) for one in operators)
        given, weight = (
            total(price(one) for one in operators) for price in (prices.backward_input, prices.backward_weight)
        )
        if any(one.host_waits for one in operators):
            software = prices.framework
            forward = forward.launched(software.experts.launch_s, software.host_sigma)
            both = given.plus(weight)
            late = both.launched(software.experts.launch_s, software.host_sigma)
            given = given.plus(Spent(launch_s=late.launch_s - both.launch_s))
            given = given._replace(unsure_s=tuple(a - b for a, b in zip(late.unsure_s, weight.unsure_s, strict=True)))
        return cls(operators, forward, given, weight)

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
        mtp_layers: int = 0,
    ) -> None:
        self.architecture, self.cut, self.kernels = architecture, cut, kernels
        self.prices, self.recompute, self.mtp_layers = prices, recompute, mtp_layers
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
        more = mtp_operators(architecture, cut, kernels, vocabulary=self.vocabulary) if mtp_layers else ()
        self._mtp = Pass.of(more, prices)

    def at_clock(self, clock: float) -> StagePricer:
        """The same at another core clock, a share of boost."""
        prices = copy(self.prices)
        prices.clock = clock
        return StagePricer(self.architecture, self.cut, self.kernels, prices, self.recompute, self.mtp_layers)

    def all_layers(self) -> Spent:
        """Forward and backward of every layer for one micro-batch."""
        parts = [self._of_layers([group]) for group in self.architecture.groups]
        counted = zip(parts, self.architecture.groups, strict=True)
        return total((work.forward.plus(work.backward)).times(group.count) for work, group in counted)

    def layer_seconds(self) -> list[float]:
        """Forward and backward of each layer, in the model's order."""
        seconds = [0.0] * self.architecture.num_layers
        for group in self.architecture.groups:
            work = self._of_layers([group])
            for layer in group.layers:
                seconds[layer] = work.forward.seconds + work.backward.seconds
        return seconds

    def expert_seconds(self, group: LayerGroup) -> float:
        """Of a layer of a group, forward and backward, what grows with the rows of the rank's experts."""
        operators = self._layers[group].operators
        again = {one.name for one in self.recompute.again(operators, 0)}
        seconds = 0.0
        for one in operators:
            if one.name in GROWING or one.name.startswith("experts_"):
                seconds += self.prices.forward(one).seconds * (2.0 if one.name in again else 1.0)
                seconds += self.prices.backward_input(one).seconds + self.prices.backward_weight(one).seconds
        return seconds

    def end_seconds(self) -> tuple[float, float]:
        """Forward and backward of what stands before the first layer, and after the last."""
        first, last, module = (
            end.forward.seconds + end.backward_input.seconds + end.backward_weight.seconds
            for end in (*self._ends, self._mtp)
        )
        if self.mtp_layers:
            layer = self._of_layers([self._last_group])
            last += self.mtp_layers * (module + layer.forward.seconds + layer.backward.seconds)
        return first, last

    def stage(self, layers: LayerRange, *, first: bool | None = None, last: bool | None = None) -> StageWork:
        """A range of layers, which may be empty; with the embedding on the first stage and the head on the last: those
        with the first and the last layer, unless said otherwise.
        """
        first = layers.start == 0 if first is None else first
        last = layers.stop == layers.total if last is None else last
        mtp = self.mtp_layers if last else 0
        groups = [group for group in self.architecture.groups for _ in range(layers.count(group))]
        work = self._of_layers([*groups, *[self._last_group] * mtp])
        ends = [end for end, here in zip(self._ends, (first, last), strict=True) if here] + [self._mtp] * mtp
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
        table = self._table() * bytes_per_element(self.cut.dtype)  # its gradient, before it is added to the others'
        if first:
            work = replace(work, working_bytes=max(work.working_bytes, table))
        if last:  # logits beside what is kept of them, or their gradient
            loss = loss_working_bytes(self.cut, self.kernels, vocabulary=self.vocabulary)
            work = replace(work, working_bytes=max(work.working_bytes, loss, self._weight_gradient(self._ends[1])))
        tied = self.architecture.tie_word_embeddings and (first != last)
        launch_s = self.prices.framework.launch_s
        return replace(
            work,
            forward=work.forward.launched(launch_s),
            backward_input=work.backward_input.launched(launch_s),
            backward_weight=work.backward_weight.launched(launch_s),
            parameters=self._parameters(layers, first=first, last=last),
            expert_parameters=self._expert_parameters(layers, mtp),
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
            kept += layer.weight_input_bytes if repeated != layer.operators else 0.0
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
        """Gradients alive at once: of the widest product's output and input, and of the largest one's weights."""
        widest = beside = weights = 0.0
        for group in set(groups):
            weights = max(weights, self._weight_gradient(self._layers[group]))
            for one in self._layers[group].operators:
                widest = max(widest, one.saved_bytes if one.part in ("mlp", "matrix", "attention_core") else 0.0)
                beside = max(beside, one.working_bytes)
        return 2.0 * widest + beside + weights

    def _weight_gradient(self, part: Pass) -> float:
        """Of the largest matrix, before it is added to those of other micro-batches; none where its product does so."""
        if self.kernels.fused_weight_gradient:
            return 0.0
        products = [op for one in part.operators for op in one.backward_weight if isinstance(op, Gemm)]
        return max((float(op.m * op.n) for op in products), default=0.0) * bytes_per_element(self.cut.dtype)

    def _parameters(self, layers: LayerRange, *, first: bool, last: bool) -> float:
        architecture, tp = self.architecture, self.cut.tp
        mtp = self.mtp_layers if last else 0
        count = self._expert_parameters(layers, mtp) + sum(
            self._count(layers, group, mtp) * _elements(layer_weights(architecture, group, tp), experts=False)
            for group in architecture.groups
        )
        count += mtp * mtp_parameters(architecture)
        if first:
            count += _elements(embedding_weights(architecture, tp)) + self._padding()
        if last:
            shares = first and architecture.tie_word_embeddings
            count += _elements(head_weights(architecture, tp, shares_embedding=shares))
            count += 0 if shares else self._padding()
        return count

    @property
    def _last_group(self) -> LayerGroup:
        """The last layer's, like which the layers of multi-token prediction are."""
        return max(self.architecture.groups, key=lambda group: max(group.layers))

    def _count(self, layers: LayerRange, group: LayerGroup, mtp: int) -> int:
        return layers.count(group) + (mtp if group == self._last_group else 0)

    def _expert_parameters(self, layers: LayerRange, mtp: int) -> float:
        """Of the rank's part of the routed experts."""
        share = self.cut.experts
        whole = 0.0
        for group in self.architecture.groups:
            weights = layer_weights(self.architecture, group)
            whole += self._count(layers, group, mtp) * (_elements(weights) - _elements(weights, experts=False))
        return whole / (share.ep * share.etp)

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


def _elements(weights: list[Weight], *, experts: bool = True) -> int:
    return sum(weight.elements for weight in weights if experts or weight.visited_fraction == (1, 1))
