"""Exact accounting of KV cache blocks: what is taken is given back, and never more than there is."""

from __future__ import annotations


class KvBlocks:
    """A pool of equal blocks; who holds which does not matter, how many does."""

    __slots__ = ("block_size", "free", "least_free", "total")

    def __init__(self, total: int, block_size: int) -> None:
        self.total = total
        self.block_size = block_size  # tokens a block
        self.free = total
        self.least_free = total

    def take(self, blocks: int) -> None:
        """Take blocks; taking more than are free is an error of the engine, not of the user."""
        free = self.free - blocks
        if free < 0:
            raise AssertionError(f"{blocks} KV blocks taken, {self.free} free")
        self.free = free
        self.least_free = min(self.least_free, free)

    def give(self, blocks: int) -> None:
        """Give blocks back."""
        self.free += blocks
        if self.free > self.total:
            raise AssertionError(f"{self.free} KV blocks free of {self.total}")

    @property
    def peak_used(self) -> int:
        """Most blocks in use at once."""
        return self.total - self.least_free
