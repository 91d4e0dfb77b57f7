"""Memory below an engine's GPUs that keeps pages of KV: host memory, then drives, and the links between them.

A page is written through to every tier as soon as it has been computed, behind the engine's back, so that leaving a
tier costs nothing; a tier that is full drops its oldest page. Reads are what an engine waits for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TierLimits:
    """Of one tier of one engine: what it holds, and how long a KV block takes in and out (every GPU its share)."""

    name: str
    blocks: int
    block_bytes: float  # of a KV block over all GPUs of the engine
    read_block_s: float
    write_block_s: float
    takes_turns: bool  # reads and writes share the device's time, as on drives; else each way has a link of its own


class WriteQueue:
    """Writes in order behind one another; a read goes before those that wait, or where the two take turns, beside."""

    def __init__(self, *, takes_turns: bool) -> None:
        self._takes_turns = takes_turns
        self._asked_s = self._done_s = 0.0  # seconds of writing, ever asked for and done
        self._at_s = 0.0  # as of when

    @property
    def busy_s(self) -> float:
        """Seconds of writing, those included that still wait."""
        return self._asked_s

    def write(self, seconds: float, now_s: float) -> float:
        """Ask for so many seconds of writing; returns what `is_done` tells when they are over."""
        self._advance(now_s)
        self._asked_s += seconds
        return self._asked_s

    def is_done(self, mark_s: float, now_s: float) -> bool:
        """Is a write over?"""
        self._advance(now_s)
        return self._done_s >= mark_s

    def reading_s(self, seconds: float, now_s: float) -> float:
        """How long a read takes that alone would take so many seconds."""
        self._advance(now_s)
        return seconds + (min(seconds, self._asked_s - self._done_s) if self._takes_turns else 0.0)

    def read(self, seconds: float, now_s: float) -> float:
        """Read: as `reading_s`, and the writes get their turns."""
        whole_s = self.reading_s(seconds, now_s)
        if self._takes_turns:
            self._done_s += whole_s - seconds
            self._at_s = max(self._at_s, now_s + whole_s)
        return whole_s

    def _advance(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._done_s = min(self._asked_s, self._done_s + now_s - self._at_s)
            self._at_s = now_s


class KvTier:
    """Pages of one tier, oldest first: by last use (LRU) or, where `by_use` is False, by when they came (FIFO)."""

    def __init__(self, limits: TierLimits, page_blocks: int, *, by_use: bool) -> None:
        self.limits = limits
        self.capacity = limits.blocks // page_blocks  # pages
        self.peak = 0
        self.evicted = 0
        self.read_pages = 0
        self.written_pages = 0
        self.read_s = limits.read_block_s * page_blocks  # of a page
        self.queue = WriteQueue(takes_turns=limits.takes_turns)
        self._write_s = limits.write_block_s * page_blocks
        self._by_use = by_use
        self._pages: OrderedDict[int, float] = OrderedDict()  # page -> mark of its write

    def __len__(self) -> int:
        return len(self._pages)

    def has(self, page: int, now_s: float) -> bool:
        """Is it there, and wholly written?"""
        mark_s = self._pages.get(page)
        return mark_s is not None and self.queue.is_done(mark_s, now_s)

    def touch(self, page: int) -> None:
        """It was used."""
        if self._by_use and page in self._pages:
            self._pages.move_to_end(page)

    def store(self, page: int, now_s: float) -> None:
        """Begin to write a page that is not there."""
        if self._make_room(page):
            self._pages[page] = self.queue.write(self._write_s, now_s)
            self.written_pages += 1

    def keep(self, page: int) -> None:
        """Keep a page that comes by on its way up."""
        if self._make_room(page):
            self._pages[page] = 0.0

    def _make_room(self, page: int) -> bool:
        """For a page that is not there; False where it is, or never will be."""
        if page in self._pages or not self.capacity:
            self.touch(page)
            return False
        if len(self._pages) >= self.capacity:
            self._pages.popitem(last=False)
            self.evicted += 1
        self.peak = max(self.peak, len(self._pages) + 1)
        return True


class KvTiers:
    """All tiers of one engine, fastest first."""

    def __init__(self, limits: Iterable[TierLimits], page_blocks: int, *, by_use: bool = True) -> None:
        self.tiers = [KvTier(one, page_blocks, by_use=by_use) for one in limits]

    def find(self, page: int, now_s: float) -> int:
        """The fastest tier that has a page; -1: none."""
        for number, tier in enumerate(self.tiers):
            if tier.has(page, now_s):
                return number
        return -1

    def store(self, page: int, now_s: float) -> None:
        """Write a page of the GPUs' through to every tier that lacks it."""
        for tier in self.tiers:
            tier.store(page, now_s)

    def loading_s(self, where: Iterable[int], now_s: float) -> float:
        """How long loading pages from these tiers would take: they stream through the faster ones, so that the
        slowest link decides.
        """
        counts = self._crossing(where)
        return max(
            (t.queue.reading_s(n * t.read_s, now_s) for t, n in zip(self.tiers, counts, strict=True) if n),
            default=0.0,
        )

    def load(self, pages: dict[int, int], now_s: float) -> float:
        """Load pages (page -> tier) to the GPUs; returns the seconds. What comes from below stays on the way up."""
        slowest_s = 0.0
        for tier, count in zip(self.tiers, self._crossing(pages.values()), strict=True):
            if count:
                tier.read_pages += count
                slowest_s = max(slowest_s, tier.queue.read(count * tier.read_s, now_s))
        for page, where in reversed(pages.items()):
            for number, tier in enumerate(self.tiers):
                if number < where:
                    tier.keep(page)
                else:
                    tier.touch(page)
        return slowest_s

    def _crossing(self, where: Iterable[int]) -> list[int]:
        """Pages that are read from each tier: those of lower tiers too, which cross it."""
        counts = [0] * len(self.tiers)
        for tier in where:
            for above in range(tier + 1):
                counts[above] += 1
        return counts
