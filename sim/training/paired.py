"""A forward and a backward of two micro-batches run as a pair, the exchanges of each beside the work of the other.

Attention, dispatch, experts and combine of the two take turns, so that exchanges among expert-parallel ranks are hidden
by the pair's work, which leaves them some multiprocessors from its beginning to its end: DualPipe (DeepSeek-V3, arXiv
2412.19437, sections 3.2.1 and 3.2.2), and Megatron Core's `--overlap-moe-expert-parallel-comm` in other schedules.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING

from policies.parallelism.schedules import BACKWARD, FORWARD, Slot
from sim.training.pricing import NOTHING, Spent

if TYPE_CHECKING:
    from sim.training.deployment import TrainingDeployment


def paired_seconds(forward: Spent, backward: Spent, share: float) -> float:
    """Seconds of the pair; share: of the multiprocessors, which are left to exchanges. Where that would take longer,
    the two run one after the other.
    """
    exchange_s, alone_s = forward.expert_s + backward.expert_s, forward.seconds + backward.seconds
    return min(alone_s, max(exchange_s, (alone_s - exchange_s) / (1.0 - share)))


def paired_work(work: Spent, share: float) -> Spent:
    """The same work in pairs: what is left of waiting for exchanges."""
    more_s = paired_seconds(work, NOTHING, share) - work.seconds
    return work._replace(network_s=work.network_s + more_s)


def shortened(deployment: TrainingDeployment, program: tuple[Slot, ...], joined: Collection[Slot]) -> dict[int, float]:
    """By what the seconds of a device's slots are multiplied, by their place: only those of pairs are there.

    joined: slots that the schedule itself pairs with the one after them.
    """
    wanted = deployment.scenario.training.overlap_moe_expert_parallel_comm
    factors: dict[int, float] = {}
    for index, (one, other) in enumerate(pairwise(program)):
        if index in factors or not (one in joined or (wanted and _may_pair(one, other))):
            continue
        factor = _factor(deployment, one, other)
        factors[index] = factors[index + 1] = factor
    return factors


def _may_pair(one: Slot, other: Slot) -> bool:
    """A forward and a backward, neither of which waits for the other."""
    return {one.work, other.work} == {FORWARD, BACKWARD} and one.micro_batch != other.micro_batch


def _factor(deployment: TrainingDeployment, one: Slot, other: Slot) -> float:
    ahead, back = (one, other) if one.work == FORWARD else (other, one)
    forward, backward = deployment.stages[ahead.stage].forward, deployment.stages[back.stage].backward
    alone_s = forward.seconds + backward.seconds
    if not alone_s:
        return 1.0
    share = deployment.framework.expert_sms / deployment.gpu.sm_count
    return paired_seconds(forward, backward, share) / alone_s
