"""Steps that are run before the clock starts, so that no library loads and nothing compiles while requests wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from calibration.reference_server.batch import ChunkPlace, Ints, StepWork
from calibration.reference_server.executor import Executor


def ladder(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to `most`, ascending."""
    rungs, size = [], 1
    while size < most:
        rungs += [size, size * 3 // 2]
        size *= 2
    return sorted({rung for rung in rungs if rung < most} | {most})


def made_up_step(
    executor: Executor, *, longest: int, new: int = 0, past: int = 0, decodes: int = 0, context: int = 1
) -> StepWork:
    """A step on whatever the cache holds; it reads and writes the first blocks, for all sequences the same.

    longest: tokens of a sequence at most. new: rows of chunks, in as many as it takes, each after `past` tokens.
    context: KV tokens of each decoding sequence, the new one included.
    """
    seats, width = executor.table.shape
    blocks, size = executor.cache[0][0].shape[:2]

    def slots(positions: Ints) -> Ints:
        return np.asarray((positions // size) % (blocks - 1) * size + positions % size)

    piece = longest - past
    chunks = [ChunkPlace(i % (seats - 1), min(piece, new - at), past) for i, at in enumerate(range(0, new, piece))]
    spans = [np.arange(chunk.past, chunk.past + chunk.new) for chunk in chunks]
    positions = np.concatenate([*spans, np.full(decodes, context - 1)])
    contexts = [slots(np.arange(chunk.past + chunk.new)) for chunk in chunks]
    cells = np.arange((seats - 1) * width)  # all but the seat that padding has
    return StepWork(
        tokens=positions % executor.model.shape.vocab,
        positions=positions,
        slots=slots(positions),
        chunks=chunks,
        chunk_slots=np.concatenate(contexts) if past else None,
        decode_seats=np.arange(decodes) % (seats - 1),
        decode_lengths=np.full(decodes, context),
        table_cells=cells,
        table_blocks=cells % width % (blocks - 1),
    )


def steps(executor: Executor, *, most_tokens: int, most_seqs: int, longest: int) -> Iterator[StepWork]:
    """Chunks, decodes and both together, over the sizes that a run may meet."""
    for tokens in ladder(most_tokens):
        yield made_up_step(executor, longest=longest, new=tokens)
        if longest > 1:
            yield made_up_step(executor, longest=longest, new=tokens, past=longest // 2)
    for decodes in ladder(most_seqs):
        context = max(1, longest // 2)
        yield made_up_step(executor, longest=longest, decodes=decodes, context=context)
        if most_tokens > decodes:
            yield made_up_step(executor, longest=longest, new=most_tokens - decodes, decodes=decodes, context=context)


def warm_up(
    executor: Executor, *, most_tokens: int, most_seqs: int, longest: int, progress: Callable[[str], None]
) -> None:
    """Run them all."""
    count = 0
    for work in steps(executor, most_tokens=most_tokens, most_seqs=most_seqs, longest=longest):
        executor.run(work)
        count += 1
    progress(f"warmed up with {count} steps")
