"""Four ways to save states: all at once, a snapshot that is written later, its chunks in parallel, lazy copies.

Synchronous: torch.save, one thread a rank, while the training waits. Asynchronous: a blocking copy to host memory that
is allocated each time, written by such a thread beside the training (CheckFreq, FAST'21); the next checkpoint waits for
the last. TorchSnapshot: the same in chunks, each written as soon as it lands, by as many threads as storage takes.
DataStates: copies to a pinned ring beside the next forward and backward, in which states do not change; they wait
where the ring is full, and the next update waits for them (DataStates-LLM, arXiv 2406.10707, section 4).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Annotated

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.checkpoint.job import (
    CHUNKS,
    FRESH,
    PAGEABLE,
    PASS,
    PINNED,
    STORAGE,
    THREAD,
    UPDATE,
    CheckpointJob,
    CheckpointWriter,
    Waits,
)
from policies.offload.writer import Ring
from policies.task_graph import TaskGraph


@dataclass(slots=True)
class _Saver(ABC):
    """Writes one checkpoint after another into a graph."""

    writer: CheckpointWriter

    @abstractmethod
    def checkpoint(self, updated: int) -> Waits:
        """States as an update left them are saved."""


class _Way(ABC):
    """Writes steps, and a checkpoint after every so many of them."""

    def write(self, job: CheckpointJob) -> TaskGraph:
        """All steps, those that wait for nothing as one; raises ImpossibleError for a job that cannot be."""
        writer = CheckpointWriter(job, self._host_bytes(job))
        save = self._saver(writer)
        updated = self._step(writer, Waits())
        for _ in range(job.count):
            if job.every > 1:
                updated = self._step(writer, Waits(), more=job.every - 2)
            updated = self._step(writer, save.checkpoint(updated))
        return writer.graph

    @staticmethod
    def _step(writer: CheckpointWriter, waits: Waits, more: int = 0) -> int:
        """One, or as many more before it in one go: the task of its update."""
        job = writer.job
        done = writer.compute(PASS, more * job.step_s + job.pass_s, waits.passes)
        return writer.compute(UPDATE, job.update_s, [done, *waits.update])

    def _host_bytes(self, job: CheckpointJob) -> float:
        """Of host memory, for this rank's chunks."""
        return inf

    @abstractmethod
    def _saver(self, writer: CheckpointWriter) -> _Saver:
        """Of one run."""


@dataclass(slots=True)
class _Blocking(_Saver):
    """Copies while the training waits, behind the last checkpoint's writes; then writes."""

    copied: tuple[str, ...]
    written: tuple[str, ...]
    streams: bool  # a chunk is written when it has landed, not when all have
    waits_for_writes: bool
    last: int | None = None

    def checkpoint(self, updated: int) -> Waits:
        before = updated if self.last is None else self.last
        copies: list[int] = []
        writes: list[int] = []
        for _ in range(CHUNKS):
            room = writes[-2:-1] if self.waits_for_writes else []  # two chunks at a time where nothing is hidden
            copies.append(self.writer.copy(self.copied, [updated, before, *copies[-1:], *room]))
            if self.streams:
                writes.append(self.writer.write(self.written, [copies[-1]]))
        if not self.streams:
            writes = [self.writer.write(self.written, [copies[-1]]) for _ in range(CHUNKS)]
        self.last = writes[-1]
        return Waits(passes=(writes[-1] if self.waits_for_writes else copies[-1],))


@dataclass(slots=True)
class _Lazy(_Saver):
    """Copies beside the next passes, as the ring has room."""

    ring: Ring

    def checkpoint(self, updated: int) -> Waits:
        copy = updated
        for _ in range(CHUNKS):
            copy = self.writer.copy((PINNED,), [updated, *self.ring.take(self.writer.chunk_bytes)])
            self.ring.give(self.writer.write((STORAGE,), [copy]))
        return Waits(update=(copy,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronous(_Way):
    """Copy and write chunk after chunk while the training waits."""

    def _saver(self, writer: CheckpointWriter) -> _Saver:
        return _Blocking(writer, (PAGEABLE,), (THREAD, STORAGE), streams=True, waits_for_writes=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asynchronous(_Way):
    """A snapshot to fresh host memory, then written by one thread."""

    def _saver(self, writer: CheckpointWriter) -> _Saver:
        return _Blocking(writer, (PAGEABLE, FRESH), (THREAD, STORAGE), streams=False, waits_for_writes=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSnapshot(_Way):
    """A snapshot to fresh host memory, whose chunks are written as they land."""

    def _saver(self, writer: CheckpointWriter) -> _Saver:
        return _Blocking(writer, (PAGEABLE, FRESH), (STORAGE,), streams=True, waits_for_writes=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStates(_Way):
    """Lazy copies to a pinned ring; host_buffer_bytes: of it, a server."""

    host_buffer_bytes: Annotated[float, Interval(ge=1e8, le=1e13)] = 64e9

    def _host_bytes(self, job: CheckpointJob) -> float:
        """The ring; raises ImpossibleError where a chunk has no room in it."""
        chunk = job.shard_bytes / CHUNKS
        if (ring := self.host_buffer_bytes / job.ranks_in_server) >= chunk:
            return ring
        raise ImpossibleError(
            f"checkpoint.policy.host_buffer_bytes = {self.host_buffer_bytes:g}: a rank's part of it holds less than a"
            f" chunk; give at least {chunk * job.ranks_in_server:.3g}"
        )

    def _saver(self, writer: CheckpointWriter) -> _Saver:
        return _Lazy(writer, Ring(writer.host_bytes))
