"""What a serving policy sees and what it answers: sequences, the state before a step, and the batch it decides on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

UNLIMITED = 1 << 60


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside an engine.

    `to_prefill` tokens must have their KV computed before the next token comes out: the prompt, and after a
    preemption by recomputation the tokens generated so far as well.
    """

    index: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    priority: int
    to_prefill: int
    prefilled: int = 0
    generated: int = 0
    blocks: int = 0  # KV blocks: to take on admission, then held; a decoding sequence's follow from its context
    preemptions: int = 0
    first_scheduled_s: float = -1.0
    first_token_s: float = -1.0
    last_token_s: float = 0.0
    max_gap_s: float = 0.0
    join_step: int = 0  # decode pool's step count when this sequence joined it
    join_context: int = 0  # KV tokens it had then
    cached_tokens: int = 0  # of its prompt, found in a prefix cache when it was first scheduled
    shared_blocks: int = 0  # of `blocks`, those that others hold on the device as it waits; see `PrefixLookup`


class WaitingQueue(Protocol):
    """Sequences in the order in which they will be considered."""

    def __iter__(self) -> Iterator[Sequence]: ...
    def __len__(self) -> int: ...


class PrefixLookup(Protocol):
    """What a scheduler asks of a prefix cache, which keeps the KV blocks of prompts that others may open with."""

    def look_up(self, sequence: Sequence) -> None:
        """Set a waiting sequence's `prefilled` to what it would find, and `shared_blocks`."""

    def accept(self, sequence: Sequence) -> None:
        """Its prompt will be done with this batch: those that are looked up after it find its blocks."""

    def blocks_freed(self, sequence: Sequence, held: int, gone: dict[int, int]) -> int:
        """What the leaving of one that holds so many blocks frees; gone: counts pages over several that leave."""


@dataclass(slots=True)
class StepView:
    """The state of an engine (with pipeline parallelism: of one of its micro-batches) before a step."""

    now_s: float
    waiting: WaitingQueue
    swapped: Collection[Sequence]  # preempted to host memory, oldest first
    running: Collection[Sequence]  # decoding, oldest admission first
    num_running: int
    partial: Sequence | None  # the prompt that is partly prefilled, if any
    free_blocks: int
    total_blocks: int
    block_size: int  # tokens a block
    decode_blocks_needed: int  # new blocks that one more token for every running sequence takes
    decode_step: int = 0  # decode steps the running sequences' engine has made; see `context_tokens`
    cache: PrefixLookup | None = None

    def context_tokens(self, sequence: Sequence) -> int:
        """KV tokens that a running sequence holds now."""
        return sequence.join_context + self.decode_step - sequence.join_step


Chunk = tuple[Sequence, int]  # a sequence and how many of its prompt tokens to compute


@dataclass(slots=True)
class Batch:
    """One step's work, and how often it may repeat unchanged.

    The last `admit` chunks belong to the first `admit` waiting sequences, in order; where `resume` is set, that many
    sequences return from host memory first; `preempt` names running sequences to put off, before anything else.
    """

    chunks: Seq[Chunk] = ()
    decode: bool = False
    repeats: int = 1
    admit: int = 0
    resume: int = 0
    preempt: Seq[Sequence] = ()
    waits_for_kv: bool = False  # the head of the queue was refused for want of KV blocks


DECODE_ONLY = Batch(decode=True, repeats=UNLIMITED)  # one token for every running sequence, until something changes


def blocks_for(tokens: int, block_size: int) -> int:
    """KV blocks that hold `tokens`."""
    return -(-tokens // block_size)
