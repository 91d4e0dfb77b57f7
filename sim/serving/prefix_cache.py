"""A prefix cache over an engine's KV blocks, as vLLM's automatic prefix caching: blocks stay where they are when their
sequence leaves, until somebody else needs the room; a prompt that opens alike takes them over.

Whole pages of blocks have names (`PageNames`). A page that several sequences hold is there once; one that nobody holds
is idle: it counts as free and is evicted, least recently used first and the ends of prompts before their openings.
Below may be tiers that keep what is evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from policies.serving import Sequence
from sim.serving.kv_blocks import KvBlocks
from sim.serving.kv_tiers import KvTiers
from sim.serving.page_names import PageNames


class CachingBlocks(KvBlocks):
    """KV blocks of which idle ones count as free; taking those evicts their pages."""

    __slots__ = ("_evict", "idle")

    def __init__(self, total: int, block_size: int, evict: Callable[[], int]) -> None:
        super().__init__(total, block_size)
        self.idle = 0
        self._evict = evict  # drops the oldest idle page, and says how many blocks it had

    def take(self, blocks: int) -> None:
        """Take blocks, idle ones last."""
        super().take(blocks)
        while self.idle > self.free:
            self.idle -= self._evict()

    def rest(self, blocks: int) -> None:
        """Give blocks back that keep their contents."""
        self.give(blocks)
        self.idle += blocks

    def rouse(self, blocks: int) -> None:
        """Take back such blocks."""
        self.idle -= blocks
        super().take(blocks)


@dataclass(slots=True)
class CacheCounts:
    """What a cache did."""

    asked_tokens: int = 0  # of prompts, when first admitted
    hit_tokens: list[int] = field(default_factory=list)  # of these, found on the GPUs, and in each tier below
    evicted_pages: int = 0  # from the GPUs
    passed_up_pages: int = 0  # found below, and computed anew because that is faster
    load_s: float = 0.0  # of reading from tiers
    stall_s: float = 0.0  # of this, not hidden behind arithmetic


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look-up found for a sequence."""

    pages: int
    load: dict[int, int]  # of these, pages -> tiers to load them from
    passed_up: int  # pages below that are not worth it


class PrefixCache:
    """Pages of one engine: which are there, who holds them, which are idle."""

    def __init__(
        self,
        names: PageNames,
        total: int,
        block_size: int,
        tiers: KvTiers,
        recompute_s: Callable[[int, int], float] | None = None,
        overlap_layers: int = 1,
    ) -> None:
        """recompute_s: seconds of computing so many tokens of a prompt after so many, where pages below are loaded
        only if that is faster. overlap_layers: in how many parts they are loaded, each while the part before it is
        computed; 1: all before the step.
        """
        self.page_blocks = names.page_tokens // block_size
        self.blocks = CachingBlocks(total, block_size, self._evict)
        self.tiers = tiers
        self.counts = CacheCounts(hit_tokens=[0] * (1 + len(tiers.tiers)))
        self.now_s = 0.0
        self._names = names
        self._recompute_s = recompute_s
        self._layers = overlap_layers
        self._load_s = 0.0  # of the batch admitted last
        self._holders: dict[int, int] = {}  # page on the GPUs -> sequences that hold it
        self._idle: OrderedDict[int, None] = OrderedDict()  # pages that nobody holds, least recently used first
        self._uncomputed: set[int] = set()  # pages of prompts that are not done yet
        self._held: dict[int, list[int]] = {}  # sequence -> pages, of those that it is the one or one of those to hold
        self._ahead: set[int] = set()  # pages that will be there once the batch in the making is done
        self._found: dict[int, _Found] = {}  # by sequence

    # -- deciding --------------------------------------------------------------------------------------------------

    def begin(self, now_s: float) -> None:
        """A batch is in the making."""
        self.now_s = now_s
        self._ahead.clear()
        self._found.clear()

    def look_up(self, sequence: Sequence) -> None:
        """Set a waiting sequence's `prefilled` to what it would find, and `shared_blocks`; one token at least is left
        to compute, since an answer begins with it.
        """
        names, size = self._names, self._names.page_tokens
        found = shared = 0
        load: dict[int, int] = {}
        for page in names.of(sequence.index)[: (sequence.to_prefill - 1) // size]:
            holders = self._holders.get(page)
            if page in self._ahead:
                shared += 1
            elif holders is not None and page not in self._uncomputed:
                shared += holders > 0
            else:
                tier = self.tiers.find(page, self.now_s) if holders is None else -1
                if tier < 0:
                    break
                load[page] = tier
            found += 1
        passed_up = 0
        if load and not self._pays(sequence, found, load):
            found, shared = self._without(sequence, load)
            passed_up, load = len(load), {}
        sequence.prefilled = found * size
        sequence.shared_blocks = shared * self.page_blocks
        self._found[sequence.index] = _Found(found, load, passed_up)

    def _pays(self, sequence: Sequence, found: int, load: dict[int, int]) -> bool:
        """Is loading faster than computing?"""
        if self._recompute_s is None:
            return True
        size, whole = self._names.page_tokens, sequence.to_prefill
        cached = self._without(sequence, load)[0] * size
        spared_s = self._recompute_s(whole - cached, cached) - self._recompute_s(whole - found * size, found * size)
        return self.tiers.loading_s(load.values(), self.now_s) < spared_s

    def _without(self, sequence: Sequence, load: dict[int, int]) -> tuple[int, int]:
        """Pages found before the first to load, and how many of these others hold."""
        found = shared = 0
        for page in self._names.of(sequence.index):
            if page in load:
                break
            found += 1
            shared += page in self._ahead or self._holders[page] > 0
        return found, shared

    def accept(self, sequence: Sequence) -> None:
        """Its prompt will be done with this batch: those that are looked up after it find its blocks."""
        held = self._held.get(sequence.index)
        if held is None:
            pages = self._names.of(sequence.index)[: sequence.to_prefill // self._names.page_tokens]
            found = self._found[sequence.index].pages
            held = [page for number, page in enumerate(pages) if number < found or page not in self._holders]
        self._ahead.update(held)

    def blocks_freed(self, sequence: Sequence, held: int, gone: dict[int, int]) -> int:
        """What the leaving of one that holds so many blocks frees; gone: counts pages over several that leave."""
        pages = self._held.get(sequence.index, ())
        freed = held - self.page_blocks * len(pages)
        for page in pages:
            gone[page] = gone.get(page, 0) + 1
            freed += self.page_blocks * (gone[page] == self._holders[page])
        return freed

    # -- holding ---------------------------------------------------------------------------------------------------

    def admit(self, sequences: Iterable[Sequence]) -> None:
        """Take the blocks of sequences that were looked up, and load what lies below."""
        blocks, loads = 0, dict[int, int]()
        for sequence in sequences:
            plan = self._found.pop(sequence.index)
            held = self._held[sequence.index] = []
            blocks += sequence.blocks
            pages = self._names.of(sequence.index)[: sequence.to_prefill // self._names.page_tokens]
            for number, page in enumerate(pages):
                hit = number < plan.pages
                if page not in self._holders:
                    self._holders[page] = 1
                    if not hit:
                        self._uncomputed.add(page)
                elif hit:
                    blocks -= self.page_blocks
                    self._hold(page)
                else:  # somebody computes it too, or it is beyond a gap: a copy of one's own
                    continue
                held.append(page)
            loads |= plan.load
            self.counts.passed_up_pages += plan.passed_up
            if sequence.first_scheduled_s < 0.0:
                self._count(sequence, plan)
        self.blocks.take(blocks)
        self._load_s = self.tiers.load(loads, self.now_s) if loads else 0.0

    def stall_s(self, step_s: float) -> float:
        """How much longer the first step of the batch takes, which alone takes step_s, as its KV is being loaded: once.

        Each layer waits for its own KV and for the layer before it (CachedAttention, arXiv 2403.19708, section 3.2).
        """
        load_s, self._load_s = self._load_s, 0.0
        stall_s = load_s / self._layers + (self._layers - 1) * max(0.0, load_s - step_s) / self._layers
        self.counts.load_s += load_s
        self.counts.stall_s += stall_s
        return stall_s

    def _hold(self, page: int) -> None:
        if not self._holders[page]:
            del self._idle[page]
            self.blocks.rouse(self.page_blocks)
        self._holders[page] += 1

    def _count(self, sequence: Sequence, plan: _Found) -> None:
        hits, size = self.counts.hit_tokens, self._names.page_tokens
        self.counts.asked_tokens += sequence.prompt_tokens
        hits[0] += (plan.pages - len(plan.load)) * size
        for tier in plan.load.values():
            hits[1 + tier] += size

    def computed(self, sequence: Sequence, now_s: float) -> None:
        """A prompt is done: others may take its pages over, and the tiers below get those that they lack."""
        held = self._held[sequence.index]
        self._uncomputed.difference_update(held)
        self._store(held, now_s)

    def _store(self, pages: list[int], now_s: float) -> None:
        """Below the GPUs; used last are openings, which are worth more than what follows them."""
        if self.tiers.tiers:
            for page in reversed(pages):
                self.tiers.store(page, now_s)

    def leave(self, sequence: Sequence, blocks: int, tokens: int, now_s: float, *, done: bool = False) -> None:
        """A sequence goes, done or put off, which holds so many blocks, with so many tokens' KV: its pages stay."""
        mine, names = set(self._held.pop(sequence.index, ())), self._names.of(sequence.index)
        pages = names[: tokens // self._names.page_tokens]
        self._uncomputed.difference_update(mine.intersection(pages))
        for page in pages:
            if page not in self._holders:
                self._holders[page] = 1
                mine.add(page)
        held = [page for page in names if page in mine]
        self._store([page for page in held if page not in self._uncomputed], now_s)
        self.blocks.give(blocks - self.page_blocks * len(held))
        for page in reversed(held):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._uncomputed:
                self._uncomputed.discard(page)
                del self._holders[page]
                self.blocks.give(self.page_blocks)
            else:
                self._idle[page] = None
                self.blocks.rest(self.page_blocks)
        if done:
            self._names.forget(sequence.index)

    def _evict(self) -> int:
        page, _ = self._idle.popitem(last=False)
        del self._holders[page]
        self.counts.evicted_pages += 1
        return self.page_blocks
