"""What every batch scheduler has in common: its limits, its queue order, and what it asks of the KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from policies.serving.queue_order import AnyQueue, ByPriority, FirstComeFirstServed, ShortestJobFirst
from policies.serving.view import Batch, Sequence, StepView, blocks_for

Fraction = Annotated[float, Interval(ge=0, lt=1)]
QueueOrderName = Literal["fcfs", "priority", "sjf"]
QUEUE_ORDERS: dict[str, type[AnyQueue]] = {
    "fcfs": FirstComeFirstServed,
    "priority": ByPriority,
    "sjf": ShortestJobFirst,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScheduler:
    """Decides the next batch; subclasses say how."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 0  # longest prompt plus output that the engine accepts, tokens
    policy: QueueOrderName = "fcfs"

    grows_by_block: ClassVar[bool] = True  # paged: a block is taken when a sequence reaches it
    holds_until_batch_ends: ClassVar[bool] = False  # finished sequences keep their rows and memory
    preemption: ClassVar[str] = "none"
    chunks_prompts: ClassVar[bool] = False

    def next_batch(self, view: StepView) -> Batch | None:
        """The work of the next step, or None when there is nothing to do."""
        raise NotImplementedError

    def blocks_at_admission(self, sequence: Sequence, block_size: int) -> int:
        """KV blocks a sequence takes when it is admitted."""
        return blocks_for(sequence.to_prefill, block_size)

    def new_queue(self) -> AnyQueue:
        """An empty waiting queue in this scheduler's order."""
        return QUEUE_ORDERS[self.policy]()

    def newcomer_could_join(self, view: StepView, batch: Batch) -> bool:
        """Could an arrival during a repetition of `batch` change the next one? May say yes too often, never no
        wrongly.
        """
        if view.num_running + len(batch.chunks) >= self.max_num_seqs:
            return False
        return QUEUE_ORDERS[self.policy].reorders or len(view.waiting) == batch.admit


def latest_victims(view: StepView, order: QueueOrderName) -> list[Sequence]:
    """Sequences to preempt, last in order first, until one more token for each running one that is left fits in
    memory.
    """
    candidates = list(view.running)
    if view.partial is not None:
        candidates.append(view.partial)
    candidates.sort(key=QUEUE_ORDERS[order].rank, reverse=True)
    free, need = view.free_blocks, view.decode_blocks_needed
    victims: list[Sequence] = []
    gone: dict[int, int] = {}
    for sequence in candidates:
        if need <= free:
            break
        victims.append(sequence)
        blocks = sequence.blocks
        if sequence is not view.partial:
            held = view.context_tokens(sequence)
            blocks = blocks_for(held, view.block_size)
            need -= held % view.block_size == 0
        free += blocks if view.cache is None else view.cache.blocks_freed(sequence, blocks, gone)
    return victims
