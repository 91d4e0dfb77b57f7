"""How many activations a schedule keeps alive, device by device: what peak memory is made of, without a clock.

All that a device takes and gives back goes with tasks of its one compute stream, whose order the schedule says. So a
peak does not depend on when anything runs, and more micro-batches than fill a pipeline change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from policies.parallelism.schedules import FORWARD, PipelineSchedule
from policies.parallelism.schedules.breadth_first import BreadthFirst
from policies.parallelism.schedules.gpipe import GPipe
from policies.parallelism.schedules.interleaved import Interleaved
from policies.parallelism.schedules.one_forward_one_backward import OneForwardOneBackward
from policies.parallelism.schedules.schedule import Slot

Floats = NDArray[np.float64]
IN_ORDER = (OneForwardOneBackward, GPipe, Interleaved, BreadthFirst)  # whatever the times, with whole backwards
ROUNDS = 3  # of micro-batches through all devices, after which an interleaved pipeline repeats itself


def last_backwards(schedule: PipelineSchedule, devices: int, micro_batches: int) -> Floats:
    """How many backwards each device runs at its end with no forward between, of a schedule that is `in_order`."""
    chunks, device = schedule.chunks, np.arange(devices)
    every = float(chunks * micro_batches)
    if isinstance(schedule, OneForwardOneBackward):
        return np.minimum(devices - device, every).astype(float)
    if isinstance(schedule, Interleaved) and micro_batches > devices:
        return np.minimum((chunks - 1) * devices + 2 * (devices - device - 1) + 1, every).astype(float)
    return np.full(devices, every)


@dataclass(frozen=True, slots=True)
class Alive:
    """What is alive while a backward runs, of all backwards at which any device could be fullest.

    A forward is never the peak: right after it as much is alive, and a backward that follows works besides.
    """

    counts: Floats  # (devices, backwards, chunks), micro-batches
    running: NDArray[np.int64]  # (devices, backwards), which of the device's chunks the backward is of

    def peak_bytes(self, activation_bytes: Floats, working_bytes: Floats) -> Floats:
        """Most bytes at once on each device, given those of each stage of the model: (stages,), device by device."""
        devices, _, chunks = self.counts.shape
        held = self.counts @ activation_bytes.reshape(chunks, devices).T[:, :, None]
        working = np.take_along_axis(working_bytes.reshape(chunks, devices).T, self.running, axis=1)
        return np.asarray((held[:, :, 0] + working).max(axis=1), dtype=np.float64)


def in_order(schedule: PipelineSchedule) -> bool:
    """Is a schedule's order the same whatever the times, so that `alive` knows its peaks?"""
    return isinstance(schedule, IN_ORDER)


@cache
def alive(schedule: PipelineSchedule, devices: int, micro_batches: int) -> Alive:
    """For a schedule that is `in_order`."""
    if isinstance(schedule, OneForwardOneBackward):
        counts = np.minimum(devices - np.arange(devices), micro_batches).astype(float)
        return Alive(counts[:, None, None], np.zeros((devices, 1), np.int64))
    if isinstance(schedule, Interleaved):
        return _interleaved(schedule, devices, min(micro_batches, ROUNDS * devices))
    chunks = schedule.chunks  # all forwards come first, then the backwards of the last chunk
    counts = np.tril(np.full((chunks, chunks), float(micro_batches)))
    return Alive(np.tile(counts, (devices, 1, 1)), np.tile(np.arange(chunks), (devices, 1)))


@cache
def _interleaved(schedule: Interleaved, devices: int, micro_batches: int) -> Alive:
    rows = [_of_program(program, devices, schedule.chunks) for program in schedule.programs(devices, micro_batches)]
    most = max(len(one) for one in rows)
    table = np.array([one + one[:1] * (most - len(one)) for one in rows])
    return Alive(table[:, :, :-1].astype(float), table[:, :, -1])


def _of_program(program: tuple[Slot, ...], devices: int, chunks: int) -> list[tuple[int, ...]]:
    """Distinct micro-batches alive of each chunk, and the chunk whose backward runs."""
    now = [0] * chunks
    seen: dict[tuple[int, ...], None] = {}
    for slot in program:
        chunk = slot.stage // devices
        if slot.work == FORWARD:
            now[chunk] += 1
        else:
            seen[*now, chunk] = None
            now[chunk] -= 1
    table = np.array(list(seen))
    kept = []
    for chunk in range(chunks):  # rows of which no other has as many of every chunk
        rows = table[table[:, -1] == chunk]
        no_less = (rows[:, None, :] <= rows[None, :, :]).all(axis=2)
        kept += [tuple(row) for row in rows[no_less.sum(axis=1) == 1].tolist()]
    return kept
