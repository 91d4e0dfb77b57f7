"""The bound of a step's seconds with all that stages and copies of the model send each other.

Exchanges count as long as they take alone: on links that others use at the same time they take longer. With 1F1B there
is also the loop that every stage waits in: down to the last stage and back up, in which time it runs no further ahead
than there are stages below it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.parallelism.schedules.one_forward_one_backward import OneForwardOneBackward
from sim.plan.training.alive import last_backwards
from sim.plan.training.bounds import ROUNDING, Shape, before
from sim.plan.training.stage_columns import Floats
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment
from sim.training.pipeline_hops import PipelineHops
from sim.training_scenario import TrainingSection

PLAIN = ("none", "zero1", "zero2", "zero3", "fsdp")
GRADIENT_REDUCE = TrainingSection.model_fields["gradient_reduce"].default


def exchange_bound_s(deployment: TrainingDeployment, shape: Shape) -> float:
    """Seconds that no execution of a plan undercuts, given its passes alone."""
    return ExchangeBound(deployment, shape).step_s() * (1 - ROUNDING)


class ExchangeBound:
    """Of one plan."""

    def __init__(self, deployment: TrainingDeployment, shape: Shape) -> None:
        self.deployment, self.shape, self.columns = deployment, shape, shape.columns
        self.exchanges = Exchanges(deployment)
        self.pp, self.zero = deployment.layout.pp, self.exchanges.zero
        self._host_s = deployment.framework.host_s_per_step
        self.sends_s = np.array(PipelineHops(deployment).to_stages_s())  # to each stage from the one before

    def step_s(self) -> float:
        """Seconds."""
        shape, host_s = self.shape, self._host_s
        optimizer_s = np.array([self.exchanges.optimizer_s(device) for device in range(self.pp)])
        if not (shape.in_order and self._plain()):
            return host_s + float((shape.passes_s + optimizer_s).max())
        first_s, last_s = self._delays_s(), self._tails_s()
        hops_s = np.cumsum(self.sends_s)[: self.pp]
        begins_s = np.maximum(first_s, first_s[0] + shape.down_s + hops_s)
        top_s = last_s[0] + self.exchanges.tied_s
        own_s = np.maximum(last_s, self._cool_down_s()) if self.zero == 2 else last_s
        ends_s = np.maximum(own_s, top_s + shape.up_s + hops_s)
        busiest_s = float((begins_s + shape.passes_s + self._stands_s() + ends_s).max())
        loops_s = float(first_s[0]) + self._loops_s() + float(top_s)
        longest_s = max(busiest_s, loops_s, self._data_s())
        return host_s + longest_s + self.exchanges.norm_s + float(optimizer_s.max())

    def _plain(self) -> bool:
        """Does every exchange of a kind go the same way, whole, at every step?"""
        training = self.deployment.scenario.training
        return training.sharding.name in PLAIN and training.gradient_reduce == GRADIENT_REDUCE

    def _delays_s(self) -> Floats:
        """How much later each device's first pass ends than it would if all weights were there."""
        if self.zero == 0:
            return np.zeros(self.pp)
        if self.zero == 3:
            early_s = self._each("gather", self._pieces)[: self.pp] - self._host_s  # begins with the host's work
            return np.maximum(early_s, 0.0)
        if not self.deployment.overlap_param_gather:
            return self._each("gather")
        return self._in_parts(self.columns.forward_s, "gather", self.exchanges.weight_width)

    def _tails_s(self) -> Floats:
        """From the end of each device's last pass until its gradients are whole."""
        columns = self.columns
        if self.exchanges.ranks == 1:
            return np.zeros(self.pp)
        if self.zero == 3:
            return self._each("reduce", self._pieces)[: self.pp]
        if self.deployment.overlap_grad_reduce:
            return self._in_parts(columns.backward_s, "reduce", self.exchanges.gradient_width)
        return self._each("reduce", np.ones_like(columns.layers))[: self.pp] if self.zero == 2 else self._each("reduce")

    def _in_parts(self, pass_s: Floats, what: str, width: float) -> Floats:
        """A pass and an exchange in as many parts, each part of one after its part of the other: what is not hidden."""
        parts = self._parts(width)
        each_s = self._each(what, parts)
        hidden_s = (parts - 1) / parts * pass_s
        return np.asarray(np.maximum(each_s, parts * each_s - hidden_s)[: self.pp], dtype=np.float64)

    def _cool_down_s(self) -> Floats:
        """What is left to reduce of a device's last backwards, between which it runs no forward, when the last ends: if
        it ran them without a pause.
        """
        if not self.deployment.overlap_grad_reduce:
            return np.zeros(self.pp)
        parts = self._parts(self.exchanges.gradient_width)
        each_s = parts * self._each("reduce", parts)
        taken_s = self.columns.backward_s + (0.0 if self.deployment.overlap_p2p else self.sends_s)
        least_s = each_s.reshape(-1, self.pp).min(axis=0)
        slowest_s = taken_s.reshape(-1, self.pp).max(axis=0)
        backwards = last_backwards(self.deployment.schedule, self.pp, self.shape.micro_batches)
        return np.asarray(backwards * (least_s - slowest_s), dtype=np.float64)

    def _stands_s(self) -> Floats:
        """How long devices stand still between passes: for a send, or what goes on beside it after a backward."""
        layers = self.columns.layers
        waits = not self.deployment.overlap_p2p
        after_forward_s = np.append(self.sends_s[1:], 0.0) * waits
        after_backward_s = self.sends_s * waits
        if self.zero == 2 and not self.deployment.overlap_grad_reduce:
            after_backward_s = np.maximum(after_backward_s, self._each("reduce", np.ones_like(layers)))
        if self.zero == 3:  # its last part's reduction, then the next pass's first gathering
            turn_s = self._each("gather", self._pieces).reshape(-1, self.pp).min(axis=0)
            turn_s = turn_s + self._each("reduce", self._pieces).reshape(-1, self.pp).min(axis=0)
            after_backward_s = np.maximum(after_backward_s, np.tile(turn_s, len(layers) // self.pp))
        stands_s = self.shape.micro_batches * self._by_device(after_forward_s + after_backward_s)
        return np.asarray(stands_s - after_backward_s[: self.pp], dtype=np.float64)  # nobody waits after the last pass

    def _loops_s(self) -> float:
        """Seconds of 1F1B's passes along a path that goes down to the last stage and back up to stage i again and
        again, the best i: each loop takes it p - i micro-batches further, and for what is left over it stays on the
        slowest stage.
        """
        if self._pairs or not isinstance(self.deployment.schedule, OneForwardOneBackward):
            return 0.0
        works_s = self.columns.forward_s + self.columns.backward_s
        below = self.pp - np.arange(self.pp)  # micro-batches a loop
        loops, rest = np.divmod(self.shape.micro_batches - 1, below)
        onward_s = np.append(self.sends_s[1:], 0.0)
        loop_s = np.cumsum((works_s + 2 * onward_s)[::-1])[::-1]
        way_s = before(works_s, self.pp) + 2 * np.cumsum(self.sends_s)  # down to stage i, and up from it
        stays_s = np.where(loops >= 1, works_s.max(), works_s[-1])
        return float((way_s + (loops + 1) * loop_s + rest * stays_s).max())

    def _data_s(self) -> float:
        """From the host's end until the busiest stream of exchanges is done, where each micro-batch has its own."""
        columns, many = self.columns, self.shape.micro_batches
        if self.zero < 2:
            return 0.0
        if self.zero == 3:
            each_s = 2 * self._each("gather", self._pieces) + self._each("reduce", self._pieces)
            return many * float(self._by_device(self._pieces * each_s).max()) - self._host_s
        overlapped = self.deployment.overlap_grad_reduce
        parts = self._parts(self.exchanges.gradient_width) if overlapped else np.ones(len(columns.layers), np.int64)
        each_s = parts * self._each("reduce", parts)
        ends = slice(len(columns.layers) - self.pp, None)  # the stage whose backward is a device's first
        onward_s = np.append(self.sends_s[1:], 0.0)
        least_s = columns.backward_s - (columns.network_s if self._pairs else 0.0)
        back_s = np.cumsum((least_s + onward_s)[::-1])[::-1] - onward_s
        first_s = columns.forward_s.sum() + self.sends_s.sum() + back_s - least_s * (1 - 1 / parts)
        return float((first_s[ends] + many * self._by_device(each_s)).max())

    @property
    def _pairs(self) -> bool:
        """Do passes run in pairs, which hide what ranks that share a layer exchange?"""
        return self.deployment.scenario.training.overlap_moe_expert_parallel_comm

    @property
    def _pieces(self) -> NDArray[np.int64]:
        """Into how many each stage's weights are cut that come together before a pass."""
        return self.columns.layers * self.deployment.framework.gathering.collectives_per_layer

    def _parts(self, width: float) -> NDArray[np.int64]:
        """Into how many each stage's exchange is cut."""
        return np.array([self.exchanges.buckets(stage, width) for stage in range(len(self.columns.layers))])

    def _each(self, what: str, parts: NDArray[np.int64] | None = None) -> Floats:
        """Seconds of gathering or reducing one of so many parts of each stage; of each device where parts is None."""
        price = self.exchanges.gather_s if what == "gather" else self.exchanges.reduce_s
        of, share = (self.shape, np.ones(self.pp)) if parts is None else (self.columns, 1.0 / parts)
        pairs = list(zip((of.parameters * share).tolist(), (of.expert_parameters * share).tolist(), strict=True))
        seconds = {pair: price(*pair) for pair in dict.fromkeys(pairs)}
        return np.array([seconds[pair] for pair in pairs])

    def _by_device(self, of_stages: Floats) -> Floats:
        """Sums over the stages of each device."""
        return np.asarray(of_stages.reshape(-1, self.pp).sum(axis=0), dtype=np.float64)
