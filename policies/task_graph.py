"""Task graphs: what runs after what, on which stream, holding how much memory. Policies write them; `sim` runs them.

A stream is one thing at a time: a GPU's compute queue, a link's direction, a copy engine, a CPU. Tasks of a stream run
in the order they were added, as on a CUDA stream, unless it takes them by priority. A task starts when its stream has
come to it, all tasks it waits for have ended, and the memory that it acquires is free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

NO_STREAM = -1  # a task that occupies nothing: a moment to wait for, or a delay that others do not feel


@dataclass(frozen=True, slots=True)
class Stream:
    """Who runs one task at a time; `device` says whose, `name` what: "compute", "tensor", "pipeline", "data", "h2d"."""

    device: int
    name: str
    by_priority: bool = False  # of the tasks that could start, the one of highest priority; else in the order added


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory of one device, with its budget in bytes."""

    device: int
    name: str  # "hbm", "host", "ssd"
    budget_bytes: float = inf


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a link that transfers share."""

    name: str
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes over links, all of which they cross at once; they flow after `latency_s`."""

    links: tuple[int, ...]
    size_bytes: float
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """Bytes that a task takes from a pool when it starts (positive) or gives back when it ends (negative)."""

    task: int
    pool: int
    change_bytes: float
    owner: str  # what the bytes are: "weights", "activations", "gradients"


@dataclass(slots=True)
class TaskGraph:
    """Columns with one entry a task; tasks, streams, pools and links are known by their index."""

    streams: list[Stream] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)  # NO_STREAM: none
    duration_s: list[float] = field(default_factory=list)  # of a transfer: alone on its links
    after: list[list[int]] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    priority: list[int] = field(default_factory=list)
    transfer: dict[int, Transfer] = field(default_factory=dict)  # of tasks that share links
    memory: list[MemoryChange] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.stream)

    def add_stream(self, device: int, name: str, *, by_priority: bool = False) -> int:
        """A new stream's index."""
        self.streams.append(Stream(device, name, by_priority))
        return len(self.streams) - 1

    def add_pool(self, device: int, name: str, budget_bytes: float = inf) -> int:
        """A new pool's index."""
        self.pools.append(Pool(device, name, budget_bytes))
        return len(self.pools) - 1

    def add_link(self, name: str, bytes_per_s: float) -> int:
        """A new link's index."""
        self.links.append(Link(name, bytes_per_s))
        return len(self.links) - 1

    def add(
        self,
        stream: int,
        duration_s: float,
        kind: str,
        after: Iterable[int] = (),
        *,
        name: str = "",
        priority: int = 0,
        transfer: Transfer | None = None,
    ) -> int:
        """A new task's index; it may wait for tasks that are added later (`wait_for`)."""
        task = len(self.stream)
        self.stream.append(stream)
        self.duration_s.append(duration_s)
        self.kind.append(kind)
        self.after.append(list(after))
        self.name.append(name or kind)
        self.priority.append(priority)
        if transfer is not None:
            self.transfer[task] = transfer
        return task

    def wait_for(self, task: int, *others: int) -> None:
        """Let a task start only after others have ended."""
        self.after[task].extend(others)

    def acquire(self, task: int, pool: int, size_bytes: float, owner: str) -> None:
        """Take memory when a task starts; it waits until the pool has room."""
        self.memory.append(MemoryChange(task, pool, size_bytes, owner))

    def release(self, task: int, pool: int, size_bytes: float, owner: str) -> None:
        """Give memory back when a task ends."""
        self.memory.append(MemoryChange(task, pool, -size_bytes, owner))
