"""What an engine was given, and the sequences that it batches together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from policies.serving import AnyQueue, Sequence, StepView
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.kv_tiers import TierLimits


@dataclass(slots=True)
class Limits:
    """What an engine was given: KV blocks in device and in host memory, and how long a block takes to copy between
    them.
    """

    kv_blocks: int
    block_size: int  # tokens
    swap_blocks: int
    swap_block_s: float
    window: int  # sliding attention window, tokens; 0: none
    tiers: tuple[TierLimits, ...] = ()  # below the GPUs' memory, fastest first


class Queues(Protocol):
    """Of an engine, which all its lanes take from."""

    waiting: AnyQueue
    swapped: deque[Sequence]


class Lane:
    """Sequences that are batched together: all of an engine's, or with pipeline parallelism one micro-batch's."""

    __slots__ = ("held_blocks", "load", "number", "padding_rows", "partial", "pool", "view")

    def __init__(self, number: int, limits: Limits, engine: Queues) -> None:
        self.number = number
        self.pool = DecodePool(limits.block_size, limits.window)
        self.partial: Sequence | None = None
        self.load = ChunkLoad(limits.window)
        self.held_blocks = 0  # of finished sequences whose batch is not over
        self.padding_rows = 0  # such sequences: their rows are still computed
        self.view = StepView(
            0.0, engine.waiting, engine.swapped, self.pool.members.values(), 0, None, 0, limits.kv_blocks,
            limits.block_size, 0,
        )  # fmt: skip
