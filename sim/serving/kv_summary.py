"""What a run's prefix caches found, kept and moved, over all replicas."""

from __future__ import annotations

from typing import Any

from sim.serving.prefix_cache import PrefixCache
from sim.serving.simulate import ServingRun

LINKS = {"host": ("gpu_to_host", "host_to_gpu"), "drives": ("host_to_drives", "drives_to_host")}


def kv_cache_summary(run: ServingRun) -> dict[str, Any]:
    """The key kv_cache, as docs/kv_tiers.md has it; nothing without a prefix cache."""
    caches = [replica.cache for replica in run.replicas if replica.cache is not None]
    if not caches:
        return {}
    tiers = ["gpu", *(tier.limits.name for tier in caches[0].tiers.tiers)]
    asked = sum(cache.counts.asked_tokens for cache in caches)
    hits = {name: sum(cache.counts.hit_tokens[i] for cache in caches) for i, name in enumerate(tiers)}
    return {
        "kv_cache": {
            "page_tokens": caches[0].page_blocks * caches[0].blocks.block_size,
            "asked_tokens": asked,
            "hit_fraction": sum(hits.values()) / asked if asked else None,
            "hit_fraction_by_tier": {name: hit / asked if asked else None for name, hit in hits.items()},
            "passed_up_tokens": sum(
                cache.counts.passed_up_pages * cache.page_blocks * cache.blocks.block_size for cache in caches
            ),
            "evicted_blocks": _evicted_blocks(caches),
            "peak_fraction": {
                tier: max(_peak_fraction(cache, i) for cache in caches) for i, tier in enumerate(tiers[1:])
            },
            "moved_bytes": _moved_bytes(caches),
            "load_s": sum(cache.counts.load_s for cache in caches),
            "load_stall_s": sum(cache.counts.stall_s for cache in caches),
        }
    }


def _evicted_blocks(caches: list[PrefixCache]) -> dict[str, int]:
    """By tier."""
    found = {"gpu": sum(cache.counts.evicted_pages * cache.page_blocks for cache in caches)}
    for cache in caches:
        for tier in cache.tiers.tiers:
            name = tier.limits.name
            found[name] = found.get(name, 0) + tier.evicted * cache.page_blocks
    return found


def _peak_fraction(cache: PrefixCache, tier: int) -> float:
    one = cache.tiers.tiers[tier]
    return one.peak / one.capacity if one.capacity else 0.0


def _moved_bytes(caches: list[PrefixCache]) -> dict[str, float]:
    """By link and direction."""
    found: dict[str, float] = {}
    for cache in caches:
        for tier in cache.tiers.tiers:
            page_bytes = tier.limits.block_bytes * cache.page_blocks
            for way, pages in zip(LINKS[tier.limits.name], (tier.written_pages, tier.read_pages), strict=True):
                found[way] = found.get(way, 0.0) + pages * page_bytes
    return found
