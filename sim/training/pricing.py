"""Seconds of training operators on one rank, by what they wait for, and how unsure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.intervals import NORMAL_90
from hardware_models.ops import AttentionTraining, Collective, Gemm, GroupedGemm
from hardware_models.training_framework import TrainingFramework
from sim.training.expert_links import ExpertLinks
from workloads.training.operator import ExpertExchange, Repeated, TrainingOp, TrainingOperator

FACTORS = ("matrix products", "attention", "passes", "collectives", "software", "uneven routing")
SOFTWARE, ROUTING = FACTORS.index("software"), FACTORS.index("uneven routing")


class Spent(NamedTuple):
    """Seconds of a rank's compute stream, by what they wait for; `unsure_s` is a column a factor of FACTORS: seconds
    that one standard deviation of it moves.
    """

    compute_s: float = 0.0
    memory_s: float = 0.0
    launch_s: float = 0.0
    network_s: float = 0.0
    kernels: int = 0
    matrix_flop: float = 0.0  # of products and attention
    masked_flop: float = 0.0  # that causal kernels leave out, and MFU counts
    moved_bytes: float = 0.0  # from and to memory
    peak_s: float = 0.0  # that its products and attention would take at the peak of their formats
    unsure_s: tuple[float, ...] = (0.0,) * len(FACTORS)
    context_s: float = 0.0  # of network_s, what ranks that share a sequence wait for each other
    expert_s: float = 0.0  # of network_s, exchanges of rows among expert-parallel ranks

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute_s + self.memory_s + self.launch_s + self.network_s

    def plus(self, other: Spent) -> Spent:
        """One after the other."""
        return Spent(
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
            self.launch_s + other.launch_s,
            self.network_s + other.network_s,
            self.kernels + other.kernels,
            self.matrix_flop + other.matrix_flop,
            self.masked_flop + other.masked_flop,
            self.moved_bytes + other.moved_bytes,
            self.peak_s + other.peak_s,
            tuple(a + b for a, b in zip(self.unsure_s, other.unsure_s, strict=True)),
            self.context_s + other.context_s,
            self.expert_s + other.expert_s,
        )

    def launched(self, launch_s: float, sigma: float = 0.0) -> Spent:
        """With what the devices wait where the host, a kernel every so many seconds, cannot keep up; and as unsure as
        it makes a step if it may be slower. sigma: standard deviation of the logarithm of the host's seconds.
        """
        host_s = self.kernels * launch_s
        wait_s = max(0.0, host_s - self.seconds)
        late_s = max(0.0, host_s * math.exp(NORMAL_90 * sigma) - self.seconds - wait_s) / NORMAL_90
        if not wait_s and late_s <= self.unsure_s[SOFTWARE]:
            return self
        unsure = (*self.unsure_s[:SOFTWARE], max(late_s, self.unsure_s[SOFTWARE]), *self.unsure_s[SOFTWARE + 1 :])
        return self._replace(launch_s=self.launch_s + wait_s, unsure_s=unsure)

    def times(self, count: float) -> Spent:
        """So many times the same."""
        return Spent(
            self.compute_s * count,
            self.memory_s * count,
            self.launch_s * count,
            self.network_s * count,
            round(self.kernels * count),
            self.matrix_flop * count,
            self.masked_flop * count,
            self.moved_bytes * count,
            self.peak_s * count,
            tuple(part * count for part in self.unsure_s),
            self.context_s * count,
            self.expert_s * count,
        )


NOTHING = Spent()


def total(parts: Iterable[Spent]) -> Spent:
    """All, one after the other."""
    result = NOTHING
    for part in parts:
        result = result.plus(part)
    return result


class OperatorPrices:
    """Prices operators of one rank on a device, its tensor-parallel fabric and a framework."""

    def __init__(self, device: Device, fabric: AnyFabric | None, framework: TrainingFramework) -> None:
        self.device = device
        self.fabric = fabric
        self.framework = framework
        self.clock = 1.0  # of boost
        self.expert_links: ExpertLinks | None = None
        self._share = min(1.0, framework.collective_sms / device.spec.sm_count)

    def forward(self, operator: TrainingOperator) -> Spent:
        """Its forward, exchanges before and after it included."""
        work = total(self.op(op) for op in operator.forward)
        before, after = operator.forward_before, operator.forward_after
        if operator.host_waits:
            experts = self.framework.experts
            work = work.plus(Spent(launch_s=operator.host_waits * (experts.wait_s + experts.launch_s)))
        if operator.part == "matrix" and self.framework.tensor_parallel_chunks > 1:
            return self.in_chunks(work, before or after)
        return self.exchange(before).plus(work).plus(self.exchange(after))

    def backward_input(self, operator: TrainingOperator) -> Spent:
        """Gradients of activations, with what stands alone before them or runs beside them."""
        work = total(self.op(op) for op in operator.backward_input)
        if operator.part == "matrix" and operator.backward_before and self.framework.tensor_parallel_chunks > 1:
            return self.in_chunks(work, operator.backward_before)
        return self.exchange(operator.backward_before).plus(self.beside(work, operator.beside_input))

    def backward_weight(self, operator: TrainingOperator) -> Spent:
        """Gradients of weights, with what runs beside them."""
        return self.beside(total(self.op(op) for op in operator.backward_weight), operator.beside_weight)

    def op(self, op: TrainingOp) -> Spent:
        """One kernel, or several alike."""
        if isinstance(op, Repeated):
            return self.op(op.op).times(op.count)
        price = self.device.price(op, self.clock)
        matrix = isinstance(op, Gemm | GroupedGemm)
        factor = self.framework.matrix_factor if matrix else 1.0
        if matrix and op.dtype == "fp8":
            factor *= self.framework.fp8_factor
        busy = float(max(price.compute_s, price.memory_s)) * factor
        compute = bool(price.compute_bound)
        unsure = [0.0] * len(FACTORS)
        which = 0 if matrix else 1 if isinstance(op, AttentionTraining) else 2
        unsure[which] = float(self.device.sigma(op, price)) * busy
        return Spent(
            compute_s=busy * compute,
            memory_s=busy * (not compute),
            launch_s=float(price.launch_s),
            kernels=1,
            matrix_flop=float(op.flop) if which < 2 else 0.0,
            masked_flop=float(op.flop) if isinstance(op, AttentionTraining) and op.causal else 0.0,
            moved_bytes=float(op.moved_bytes),
            peak_s=float(op.flop) / self.device.peak_flop_per_s(op.dtype) if which < 2 else 0.0,
            unsure_s=tuple(unsure),
        )

    def exchange(self, collective: Collective | None) -> Spent:
        """A collective that nothing runs beside."""
        if isinstance(collective, ExpertExchange):
            return self._expert_exchange(collective)
        if collective is None or self.fabric is None:
            return NOTHING
        seconds = float(self.fabric.seconds(collective.kind, collective.payload_bytes))
        sigma = float(self.fabric.sigma(collective.kind, collective.payload_bytes))
        unsure = [0.0] * len(FACTORS)
        unsure[3] = sigma * seconds
        return Spent(network_s=seconds, kernels=1, unsure_s=tuple(unsure))

    def _expert_exchange(self, exchange: ExpertExchange) -> Spent:
        if self.expert_links is None:
            return NOTHING
        seconds, unsure = self.expert_links.seconds(exchange), [0.0] * len(FACTORS)
        unsure[3] = self.expert_links.sigma(exchange) * seconds
        return Spent(network_s=seconds, kernels=1, unsure_s=tuple(unsure), expert_s=seconds)

    def in_chunks(self, work: Spent, collective: Collective | None) -> Spent:
        """A product and its exchange cut into pieces that take turns: of the shorter one, a piece stands alone
        (Transformer Engine's userbuffers).
        """
        exchange, chunks = self.exchange(collective), self.framework.tensor_parallel_chunks
        if not exchange.seconds or not work.seconds:
            return work.plus(exchange)
        slowed = work.seconds + exchange.seconds * self._share
        longer, shorter = max(slowed, exchange.seconds), min(slowed, exchange.seconds)
        exposed = (longer + shorter / chunks - work.seconds) / exchange.seconds
        return work.plus(exchange.times(min(1.0, exposed))._replace(kernels=exchange.kernels))

    def beside(self, work: Spent, collective: Collective | None) -> Spent:
        """Work and a collective at once, where the framework overlaps them: the collective's kernels take their
        multiprocessors from the work for as long as they run.
        """
        exchange = self.exchange(collective)
        if not self.framework.overlap_tensor_parallel or work.seconds == 0.0:
            return work.plus(exchange)
        slowed = work.seconds + exchange.seconds * self._share
        exposed = max(exchange.seconds, slowed) - work.seconds
        hidden = exposed / exchange.seconds if exchange.seconds else 0.0
        return work.plus(exchange.times(hidden)._replace(kernels=exchange.kernels))
