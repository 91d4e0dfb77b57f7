"""KV that stays for those who open alike, on the GPUs and in the tiers below: conserved, priced, and the same however
many events it takes.
"""

import numpy as np
import pytest
from engines import serve, served, table
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.tiers import tiers
from sim.plan.request_work import RequestWork
from sim.serving.kv_tiers import KvTiers, TierLimits, WriteQueue
from sim.serving.page_names import PageNames
from sim.serving.prefix_cache import PrefixCache
from workloads.request import RequestTable

SIZE = 16  # tokens of a block


def cache_of(requests, blocks=4000, below=(), *, cheaper=False, layers=1, by_use=True):
    """Of an engine; below: capacity in blocks, seconds to read and to write one."""
    limits = [
        TierLimits(name, held, 1e6, read_s, write_s, takes_turns=name == "drives")
        for name, (held, read_s, write_s) in zip(("host", "drives"), below, strict=False)
    ]

    def make(engine):
        names = PageNames(requests, SIZE)
        tiers_below = KvTiers(limits, names.page_tokens // SIZE, by_use=by_use)
        return PrefixCache(names, blocks, SIZE, tiers_below, engine.prompt_s if cheaper else None, layers)

    return make


@st.composite
def conversations(draw):
    """Up to 30 turns of a few sessions, whose prompts open with one of two texts and with all that was said."""
    turns = draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 90), st.integers(1, 60)), min_size=2, max_size=30)
    )
    gaps = draw(st.lists(st.sampled_from([0.0, 0.013, 0.21, 2.0]), min_size=len(turns), max_size=len(turns)))
    stretch = draw(st.sampled_from([8, 16, 32]))
    said = dict.fromkeys(range(6), 64)
    prompts, answers, hashes = [], [], []
    for session, new, answer in turns:
        prompts.append(said[session] + new)
        said[session] = prompts[-1] + answer
        answers.append(answer)
        whole = prompts[-1] // stretch
        hashes.append([(session % 2, i) if i < 64 // stretch else (2 + session, i) for i in range(whole)])
    coded = [[a * 1000 + b for a, b in one] for one in hashes]
    return table(
        np.cumsum(gaps), prompts, answers, session=[session for session, _, _ in turns], prefix_hashes=coded,
        prefix_block_tokens=stretch,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scheduler", "stages"),
    [("chunked_prefill", 1), ("prefill_first", 1), ("chunked_prefill", 3), ("swap", 1)],
)
@given(requests=conversations(), blocks=st.sampled_from([60, 90, 4000]), host=st.sampled_from([0, 30, 4000]))
@settings(max_examples=12, deadline=None)
def test_blocks_all_return_and_runs_give_the_times_of_single_steps(scheduler, stages, requests, blocks, host):
    keys = {"max_num_seqs": 16, "max_num_batched_tokens": 256, "blocks": blocks, "stages": stages}
    if scheduler == "swap":
        scheduler, keys["preemption_mode"] = "prefill_first", "cheaper"
    below = ((host, 2e-4, 3e-4), (500, 1e-3, 4e-3))
    make = cache_of(requests, blocks, below, cheaper=stages == 1, layers=4 if stages == 1 else 1, by_use=host != 30)
    fast, slow = (serve(requests, scheduler, cache=make, exact=exact, **keys) for exact in (False, True))
    a, b = fast.times(), slow.times()
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1.0), initial=0.0) <= 1e-9
    assert fast.requests.finished + len(fast.requests.rejected) == len(requests)
    assert list(fast.requests.cached_tokens) == list(slow.requests.cached_tokens)
    assert np.all(np.asarray(fast.requests.cached_tokens) < requests.prompt_tokens)
    cache, other = fast.engine.cache, slow.engine.cache
    assert cache.counts.hit_tokens == other.counts.hit_tokens
    assert cache.counts.stall_s == pytest.approx(other.counts.stall_s, abs=1e-9)
    assert cache.counts.stall_s <= cache.counts.load_s + 1e-12
    assert cache.blocks.free == cache.blocks.total >= cache.blocks.idle
    assert not cache._held
    assert not cache._uncomputed
    assert set(cache._holders) == set(cache._idle)
    assert len(cache._idle) * cache.page_blocks == cache.blocks.idle
    for tier in cache.tiers.tiers:
        assert len(tier) == tier.written_pages - tier.evicted + kept(tier) <= tier.capacity
        assert tier.peak <= tier.capacity


def kept(tier):
    """Pages that came from below, of those that are or were there."""
    return len(tier) + tier.evicted - tier.written_pages


def alike(count=2, gap_s=10.0, shared=320, prompt=400, output=5):
    hashes = [[*range(shared // SIZE), *(1000 * (i + 1) + n for n in range(2))] for i in range(count)]
    return table(
        gap_s * np.arange(count), [prompt] * count, [output] * count, prefix_hashes=hashes, prefix_block_tokens=SIZE
    )


def test_a_prompt_that_opens_alike_costs_what_its_rest_costs():
    requests = alike()
    found = serve(requests, cache=cache_of(requests))
    first_s, second_s = found.times()[1] - requests.arrival_s
    assert list(found.requests.cached_tokens) == [0, 320]
    assert first_s == pytest.approx(found.engine.prompt_s(400, 0), abs=1e-12)
    assert second_s == pytest.approx(found.engine.prompt_s(80, 320), abs=1e-12)


def test_prompts_of_one_batch_hold_their_opening_once():
    requests = alike(3, gap_s=0.0, output=1)
    found = serve(requests, "prefill_first", blocks=40, cache=cache_of(requests, 40))
    assert found.columns["prefill_tokens"].tolist() == [400 + 2 * 80]
    assert found.engine.blocks.peak_used == 20 + 3 * 5


def evicted_between() -> RequestTable:
    """Two that open alike, and between them one that takes 45 blocks."""
    opens = alike().prefix_hashes
    hashes = [opens[0], (), opens[1]]
    return table([0.0, 1.0, 10.0], [400, 720, 400], [5, 1, 5], prefix_hashes=hashes, prefix_block_tokens=SIZE)


@pytest.mark.parametrize(("layers", "block_s"), [(1, 1e-3), (8, 1e-4), (8, 4e-3)])
def test_loading_from_below_waits_for_the_link_but_for_what_arithmetic_hides(layers, block_s):
    requests = evicted_between()
    found = serve(requests, blocks=45, cache=cache_of(requests, 45, ((100, block_s, 0.0),), layers=layers))
    step_s, load_s = found.engine.prompt_s(80, 320), 20 * block_s
    done_s = 0.0
    for layer in range(layers):  # each when its KV is there and the one before it is done
        done_s = max(done_s, load_s * (layer + 1) / layers) + step_s / layers
    ttft_s = found.times()[1, 2] - 10.0
    assert ttft_s == pytest.approx(done_s, abs=1e-12)
    assert found.engine.cache.counts.hit_tokens == [0, 320]
    assert found.engine.cache.counts.stall_s == pytest.approx(ttft_s - step_s, abs=1e-12)


@pytest.mark.parametrize("faster", [0.99, 1.01])
def test_kv_is_loaded_where_that_is_faster_than_computing_it(faster):
    requests = evicted_between()
    engine = serve(requests).engine
    spared_s = engine.prompt_s(400, 0) - engine.prompt_s(80, 320)
    below = ((100, spared_s / 20 / faster, 0.0),)
    cache = serve(requests, blocks=45, cache=cache_of(requests, 45, below, cheaper=True)).engine.cache
    assert cache.counts.hit_tokens == [0, 320 if faster > 1 else 0]
    assert cache.counts.passed_up_pages == (0 if faster > 1 else 20)


def test_reads_take_turns_with_the_writes_that_wait():
    queue = WriteQueue(takes_turns=True)
    mark = queue.write(3.0, 0.0)
    assert not queue.is_done(mark, 1.0)
    assert queue.read(2.0, 1.0) == 4.0  # two seconds of writing are left: done with it
    assert queue.is_done(mark, 5.0)
    assert queue.reading_s(2.0, 5.0) == 2.0
    assert WriteQueue(takes_turns=False).read(2.0, 1.0) == 2.0


def test_an_answer_bears_the_names_of_the_next_turn():
    requests = table(
        [0.0, 1.0], [40, 100], [30, 5], session=[7, 7], prefix_hashes=[[1, 2], [1, 2, 3, 4, 5, 6]],
        prefix_block_tokens=SIZE,
    )  # fmt: skip
    names = PageNames(requests, SIZE)
    assert names.of(0) == names.of(1)[:4]
    with pytest.raises(FleetcastError, match="block_size = 24"):
        PageNames(requests, 24)


def test_a_run_says_what_its_cache_found_and_moved():
    requests = table(
        10.0 * np.arange(6), [2000] * 6, [4] * 6, prefix_block_tokens=512,
        prefix_hashes=[[100 * (i % 3), 100 * (i % 3) + 1, 100 * (i % 3) + 2] for i in range(6)],
    )  # fmt: skip
    offload = {"enable_prefix_caching": True, "kv_offloading_size_gib": 1.0, "num_gpu_blocks_override": 130}
    cache = served(requests, **offload).summary["kv_cache"]
    block_bytes = 16 * 32 * 2 * 8 * 128 * 2
    assert cache["hit_fraction_by_tier"] == {"gpu": 0.0, "host": 3 * 1536 / 12000}
    assert cache["moved_bytes"] == {"gpu_to_host": 3 * 96 * block_bytes, "host_to_gpu": 3 * 96 * block_bytes}
    link = tiers(catalog.node("dgx-h100")).copy_bytes_per_s("h2d")
    assert cache["load_stall_s"] == pytest.approx(3 * 96 * block_bytes / link)
    assert "kv_cache" not in served(requests).summary


@pytest.mark.parametrize(
    ("keys", "scheduler", "message"),
    [
        ({"kv_offloading_size_gib": 1.0}, "chunked_prefill", "enable_prefix_caching"),
        ({"enable_prefix_caching": True, "kv_offloading_disk_gib": 1.0}, "chunked_prefill", "kv_offloading_size_gib"),
        ({"enable_prefix_caching": True, "kv_offloading_size_gib": 1e5}, "chunked_prefill", "host memory"),
        ({"enable_prefix_caching": True}, "orca", "prefill_first"),
        ({"enable_prefix_caching": True, "kv_offloading_size_gib": 1e-9}, "prefill_first", "not one page"),
    ],
)
def test_what_cannot_be_is_refused(keys, scheduler, message):
    reservation = {"reservation": "oracle"} if scheduler == "orca" else None
    with pytest.raises((FleetcastError, ValueError), match=message):
        served(alike(), scheduler=scheduler, keys=reservation, **keys)


def test_a_plan_does_not_count_whole_prompts_as_work_that_a_cache_spares():
    scenario = served(alike(), enable_prefix_caching=True).scenario
    with pytest.raises(FleetcastError, match="enable_prefix_caching"):
        RequestWork(scenario, alike())
