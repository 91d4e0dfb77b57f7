"""Steps with checkpoints as a task graph: one rank's passes and updates, copies of its shard, writes to storage.

All ranks save at once and have alike shares of their server and of storage, so that one with the largest shard stands
for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from policies.task_graph import TaskGraph, Transfer

PASS, UPDATE, COPY, WRITE = "passes", "update", "copy", "write"
CHUNKS = 32  # that a shard is copied and written in
PINNED, PAGEABLE, FRESH, THREAD, STORAGE = "pinned copies", "pageable copies", "fresh memory", "torch.save", "storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointJob:
    """One rank's steps; rates in bytes/s, of this rank."""

    pass_s: float  # of a step, in which states do not change
    update_s: float
    shard_bytes: float
    every: int  # steps
    count: int  # checkpoints
    ranks_in_server: int
    rates: dict[str, float]  # by name above

    @property
    def steps(self) -> int:
        """With one after the last checkpoint, whose update waits like any other."""
        return self.count * self.every + 1

    @property
    def step_s(self) -> float:
        """Without checkpoints."""
        return self.pass_s + self.update_s


@dataclass
class CheckpointWriter:
    """The graph of a job as it is written."""

    job: CheckpointJob
    host_bytes: float = inf  # that chunks of this rank may take of its server's memory
    graph: TaskGraph = field(default_factory=TaskGraph)

    def __post_init__(self) -> None:
        self._streams = {name: self.graph.add_stream(0, name) for name in ("compute", COPY, WRITE)}
        self._links = {name: self.graph.add_link(name, rate) for name, rate in self.job.rates.items()}
        self.host = self.graph.add_pool(0, "host memory", self.host_bytes)

    @property
    def chunk_bytes(self) -> float:
        """Of each piece of a shard."""
        return self.job.shard_bytes / CHUNKS

    def compute(self, kind: str, seconds: float, after: Iterable[int]) -> int:
        """On the GPU."""
        return self.graph.add(self._streams["compute"], seconds, kind, after, name=kind)

    def copy(self, links: tuple[str, ...], after: Iterable[int]) -> int:
        """A chunk goes to host memory, which holds it from now on."""
        task = self._move(COPY, links, after)
        self.graph.acquire(task, self.host, self.chunk_bytes, "checkpoint")
        return task

    def write(self, links: tuple[str, ...], after: Iterable[int]) -> int:
        """A chunk goes from there to storage."""
        task = self._move(WRITE, links, after)
        self.graph.release(task, self.host, self.chunk_bytes, "checkpoint")
        return task

    def _move(self, kind: str, links: tuple[str, ...], after: Iterable[int]) -> int:
        crossed = tuple(self._links[link] for link in links)
        seconds = self.chunk_bytes / min(self.job.rates[link] for link in links)
        transfer = Transfer(crossed, self.chunk_bytes, 0.0)
        return self.graph.add(self._streams[kind], seconds, kind, after, name=kind, transfer=transfer)


@dataclass(frozen=True, slots=True)
class Waits:
    """What a checkpoint keeps waiting: the next pass, or the next update."""

    passes: tuple[int, ...] = ()
    update: tuple[int, ...] = ()
