"""The prefill part of a step as sums over its chunks: what attention over them costs depends on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from policies.serving import Chunk
from policies.serving import Sequence as Prompt


def visible_pairs(new: int, before: int, window: int) -> int:
    """(query, key) pairs of `new` tokens after `before` others, each seeing itself and at most window - 1 tokens
    back.
    """
    full = max(0, min(new, window - before))  # queries that still see everything
    return full * before + full * (full + 1) // 2 + (new - full) * window


class ChunkLoad:
    """Sums over the chunks of one step; a context of zero tokens before the chunk is a whole or first part of a
    prompt.
    """

    __slots__ = ("before", "chunks", "context", "pairs", "tokens", "window", "window_context", "window_pairs")

    def __init__(self, window: int) -> None:
        self.window = window
        self.tokens = self.chunks = self.pairs = self.context = self.before = 0
        self.window_pairs = self.window_context = 0

    def set(self, chunks: Sequence[Chunk]) -> None:
        """Take the sums of these chunks."""
        if not chunks:
            self.tokens = self.chunks = self.pairs = self.context = self.before = 0
            self.window_pairs = self.window_context = 0
            return
        tokens = pairs = context = before = 0
        for sequence, new in chunks:
            before = sequence.prefilled
            tokens += new
            pairs += new * before + new * (new + 1) // 2
            context += before + new
        self.tokens, self.pairs, self.context, self.before = tokens, pairs, context, before
        self.chunks = len(chunks)
        if self.window:
            window = self.window
            self.window_pairs = sum(visible_pairs(new, s.prefilled, window) for s, new in chunks)
            self.window_context = sum(min(s.prefilled + new, window + new - 1) for s, new in chunks)


def prompt_load(window: int, tokens: int, before: int) -> ChunkLoad:
    """Of so many tokens of one prompt after so many others."""
    load = ChunkLoad(window)
    load.set([(Prompt(-1, 0.0, before + tokens, 1, 0, before + tokens, before), tokens)])
    return load
