"""Runs a step on the device: uploads its numbers, launches the model or replays a graph, waits for the tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.reference_server.batch import ChunkBatch, DecodeBatch, DeviceBatch, Ints, StepWork
from calibration.reference_server.graphs import DecodeGraphs
from calibration.reference_server.model import Cache, Model

ALIGNED = 8  # int64 a section is rounded up to, so that every section starts where Triton expects an aligned pointer


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What came of a step."""

    sampled: Ints  # (samples,)
    launched_at: float  # time.perf_counter() when the first kernel of the step was about to be launched
    device_s: float  # from there to the end of the last kernel: by events on a GPU, by the host's clock on a CPU
    graph_rows: int  # rows of the graph that ran, padding included; 0: kernels were launched one by one


class Executor:
    """A model with its KV cache and block table on one device."""

    def __init__(self, torch: Any, model: Model, cache: Cache, table: Any) -> None:
        """table: (seats + 1, blocks of the longest sequence) int32; the model's attention reads it."""
        self.torch, self.model, self.cache, self.table = torch, model, cache, table
        self.device = table.device
        self.is_gpu = self.device.type == "cuda"
        self._graphs: DecodeGraphs | None = None
        self._host: Any = None  # pinned
        if self.is_gpu:
            self._begin = torch.cuda.Event(enable_timing=True)
            self._end = torch.cuda.Event(enable_timing=True)

    def capture(self, largest: int, progress: Callable[[str], None]) -> list[int]:
        """Capture graphs of decode-only steps of up to `largest` sequences; returns their sizes."""
        self._graphs = DecodeGraphs(self.torch, self.model, self.cache, self.table)
        return self._graphs.capture(largest, progress)

    def run(self, work: StepWork) -> StepOutcome:
        """One step."""
        if len(work.table_cells):
            cells, blocks = self._upload([work.table_cells, work.table_blocks])
            self.table.view(-1).index_copy_(0, cells, blocks.int())
        decodes = len(work.decode_seats)
        if self._graphs is not None and not work.chunks and decodes <= self._graphs.largest:
            rows = self._graphs.load(work)
            launch = self._graphs.replay
        else:
            rows, batch = 0, self._batch(work)

            def launch() -> Any:
                return self.model.next_tokens(batch, self.cache)

        launched_at = time.perf_counter()
        sampled, device_s = self._timed(launch)
        return StepOutcome(sampled[: len(work.chunks) + decodes], launched_at, device_s, rows)

    def _timed(self, launch: Callable[[], Any]) -> tuple[Ints, float]:
        if not self.is_gpu:
            started = time.perf_counter()
            tokens = launch()
            return tokens.numpy(), time.perf_counter() - started
        self._begin.record()
        tokens = launch()
        self._end.record()
        sampled = tokens.cpu().numpy()  # waits
        return sampled, float(self._begin.elapsed_time(self._end)) * 1e-3

    def _batch(self, work: StepWork) -> DeviceBatch:
        new = np.cumsum([0, *(place.new for place in work.chunks)], dtype=np.int64)
        context = np.cumsum([0, *(place.new + place.past for place in work.chunks)], dtype=np.int64)
        nothing = np.zeros(0, dtype=np.int64)
        slots = nothing if work.chunk_slots is None else work.chunk_slots
        parts = self._upload(
            [
                work.tokens, work.positions, work.slots, work.sample_rows, work.decode_seats, work.decode_lengths,
                new, context, slots,
            ]
        )  # fmt: skip
        chunks = decodes = None
        if work.chunks:
            chunks = ChunkBatch(
                places=work.chunks,
                rows=work.chunk_rows,
                slots=None if work.chunk_slots is None else parts[8],
                query_ends=parts[6].int(),
                context_ends=parts[7].int(),
            )
        if len(work.decode_seats):
            decodes = DecodeBatch(
                seats=parts[4],
                lengths=parts[5].int(),
                count=len(work.decode_seats),
                longest=int(work.decode_lengths.max()),
            )
        sampled = parts[3] if work.chunks else None
        return DeviceBatch(
            tokens=parts[0], positions=parts[1], slots=parts[2], sample_rows=sampled, chunks=chunks, decodes=decodes
        )

    def _upload(self, arrays: Sequence[Ints]) -> list[Any]:
        """Tensors of the arrays, int64, in one copy."""
        if not self.is_gpu:
            return [self.torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        sizes = [-(-len(array) // ALIGNED) * ALIGNED for array in arrays]
        total = sum(sizes)
        if self._host is None or len(self._host) < total:
            self.torch.cuda.synchronize()
            self._host = self.torch.empty(2 * total, dtype=self.torch.int64, pin_memory=True)
        self.torch.cuda.current_stream().synchronize()  # an earlier copy out of the buffer may be under way
        filled = self._host.numpy()
        starts = np.cumsum([0, *sizes])
        for array, start in zip(arrays, starts, strict=False):
            filled[start : start + len(array)] = array
        there = self._host[:total].to(self.device, non_blocking=True)
        return [there[start : start + len(array)] for array, start in zip(arrays, starts, strict=False)]
