"""From a scenario's keys to a prefix cache: how large the tiers below the GPUs are, and how fast."""

from __future__ import annotations

from hardware_models.errors import ImpossibleError
from hardware_models.provenance import worst_grade
from hardware_models.specs import NodeSpec
from hardware_models.tiers import tiers
from policies.serving import BatchScheduler
from sim.scenario import Scenario, ServingSection
from sim.serving.engine import Engine
from sim.serving.kv_tiers import KvTiers, TierLimits
from sim.serving.lane import Limits
from sim.serving.page_names import PageNames
from sim.serving.prefix_cache import PrefixCache
from workloads.request import RequestTable

GIB = 1 << 30
SIZE_KEYS = {"host": "kv_offloading_size_gib", "drives": "kv_offloading_disk_gib"}


def tier_limits(
    node: NodeSpec, serving: ServingSection, block_bytes: float, whole_block_bytes: float
) -> tuple[TierLimits, ...]:
    """Tiers of one replica; none where no size is given.

    block_bytes: a KV block's share on the fullest GPU; whole_block_bytes: over all of the replica's GPUs. The GPUs of a
    replica copy at once, each its share; the replicas of a server share its drives evenly, as if all used them always.
    Raises ImpossibleError where a server has no room for the sizes of its replicas.
    """
    gpus = serving.tensor_parallel_size * serving.pipeline_parallel_size
    used = min(node.gpus, serving.replicas * gpus)  # of a server, by all replicas
    memory, drives = serving.kv_offloading_size_gib, serving.kv_offloading_disk_gib
    found: list[TierLimits] = []
    below = tiers(node) if memory or drives else None
    if below is None:
        return ()
    if memory:
        _check_room("kv_offloading_size_gib", memory, used / gpus, below.dram_bytes, f"{node.name}'s host memory")
        own = min(node.gpus, gpus)
        to_gpu, to_host = (below.copy_bytes_per_s(way, own) for way in ("h2d", "d2h"))
        blocks = int(memory * GIB // whole_block_bytes)
        seconds = block_bytes / to_gpu, block_bytes / to_host
        found.append(TierLimits("host", blocks, whole_block_bytes, *seconds, takes_turns=False))
    if drives:
        room = below.need_drives().capacity_bytes
        _check_room("kv_offloading_disk_gib", drives, used / gpus, room, f"{node.name}'s drives")
        read, write = (below.storage_bytes_per_s(read=way) / used for way in (True, False))  # a GPU's share
        blocks = int(drives * GIB // whole_block_bytes)
        seconds = block_bytes / read, block_bytes / write
        found.append(TierLimits("drives", blocks, whole_block_bytes, *seconds, takes_turns=True))
    return tuple(found)


def tier_grade(node: NodeSpec) -> str:
    """The worst of what copies to and from a server's host memory and drives rest on."""
    sources = tiers(node).sources()
    return worst_grade(sources[part].grade for part in ("host memory", "copies", "drives") if part in sources)


def _check_room(key: str, size_gib: float, replicas: float, room_bytes: float, what: str) -> None:
    if size_gib * replicas * GIB > room_bytes:
        raise ImpossibleError(
            f"serving.{key} = {size_gib:g}: a server's {replicas:g} replicas ask for {size_gib * replicas:,.0f} GiB,"
            f" and {what} holds {room_bytes / GIB:,.0f}; give at most {room_bytes / GIB / replicas:,.0f}"
        )


def page_names(scenario: Scenario, scheduler: BatchScheduler, requests: RequestTable) -> PageNames | None:
    """What the requests' pages are called; None without a prefix cache.

    Raises ImpossibleError where the scheduler's sequences cannot share blocks.
    """
    serving = scenario.serving
    if not serving.enable_prefix_caching:
        return None
    if not scheduler.grows_by_block:
        raise ImpossibleError(
            f"serving.enable_prefix_caching: scheduler '{serving.scheduler.name}' sets memory aside for each sequence"
            " as a whole, of which nothing can be shared; use chunked_prefill or prefill_first"
        )
    return PageNames(requests, serving.block_size)


def add_cache(engine: Engine, serving: ServingSection, limits: Limits, names: PageNames, layers: int) -> None:
    """Give an engine a prefix cache of its own. layers: of the model.

    Raises ImpossibleError for a tier below that holds not one page.
    """
    page_blocks = names.page_tokens // limits.block_size
    for tier in limits.tiers:
        key = SIZE_KEYS[tier.name]
        if tier.blocks < page_blocks:
            raise ImpossibleError(
                f"serving.{key} = {getattr(serving, key):g}: not one page of {names.page_tokens} tokens has room;"
                f" give at least {page_blocks * tier.block_bytes / GIB:.3g}, or 0 for none"
            )
    engine.use_cache(
        PrefixCache(
            names,
            limits.kv_blocks,
            limits.block_size,
            KvTiers(limits.tiers, page_blocks, by_use=serving.kv_offloading_eviction == "lru"),
            engine.prompt_s if serving.kv_offloading_load == "cheaper" else None,
            layers if serving.kv_offloading_overlap else 1,
        )
    )
