"""Operator prices: the floor that none undercuts on any device of the catalog, what grows with what, and the clock."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.errors import FleetcastError
from hardware_models.ops import AttentionDecode, AttentionPrefill, Elementwise, Embedding, Gemm, GroupedGemm

GPUS = catalog.names("gpu")

GROUPED = {
    "heads": 32, "kv_heads": 8, "qk_dim": 128, "v_dim": 128, "kv_width": 2048, "dtype": "bf16", "kv_dtype": "bf16",
}  # fmt: skip
LATENT = {
    "heads": 128, "kv_heads": 1, "qk_dim": 576, "v_dim": 512, "kv_width": 576, "dtype": "bf16", "kv_dtype": "bf16",
}  # fmt: skip

counts = st.integers(1, 70_000)
widths = st.integers(1, 30_000)
stored = st.sampled_from(sorted(BYTES_PER_ELEMENT))


def gemm(m, n, k, dtype="bf16", weight_dtype=None) -> Gemm:
    return Gemm(m=m, n=n, k=k, dtype=dtype, weight_dtype=weight_dtype or dtype)


@st.composite
def operators(draw):
    """A function from a dtype to an operator of any kind and size."""
    kind = draw(st.sampled_from(["gemm", "grouped", "prefill", "decode", "elementwise", "embedding"]))
    tokens, n, k, narrow = draw(counts), draw(widths), draw(widths), draw(stored)
    if kind == "gemm":
        return lambda dtype: gemm(tokens, n, k, dtype, narrow)
    if kind == "grouped":
        experts = draw(st.integers(1, 256))
        top_k = draw(st.integers(1, min(experts, 8)))
        common = {"n": n, "k": k, "experts": experts, "top_k": top_k, "balanced": draw(st.booleans())}
        return lambda dtype: GroupedGemm(tokens=tokens, dtype=dtype, weight_dtype=narrow, **common)
    if kind == "elementwise":
        reads, flop = draw(st.integers(0, 8)), draw(st.floats(0.0, 200.0))
        return lambda dtype: Elementwise(elements=tokens * n, reads=reads, writes=1, dtype=dtype, flop_per_element=flop)
    if kind == "embedding":
        return lambda dtype: Embedding(tokens=tokens, width=n, dtype=dtype)
    kv_heads, dim = draw(st.sampled_from([1, 2, 8])), draw(st.sampled_from([64, 128, 192, 256]))
    sizes = {
        "queries": tokens,
        "heads": kv_heads * draw(st.integers(1, 16)),
        "kv_heads": kv_heads,
        "qk_dim": dim,
        "v_dim": dim,
        "kv_width": 2 * kv_heads * dim,
        "kv_dtype": narrow,
        "window": draw(st.sampled_from([0, 1024])),
    }
    if kind == "prefill":
        context = draw(st.integers(0, 100_000))
        pairs = tokens * context + tokens * (tokens + 1) // 2
        return lambda dtype: AttentionPrefill(pairs=pairs, kv_tokens=context + tokens, dtype=dtype, **sizes)
    kv_tokens, mixed = tokens * draw(st.integers(1, 3000)), draw(st.booleans())
    return lambda dtype: AttentionDecode(pairs=kv_tokens, kv_tokens=kv_tokens, dtype=dtype, mixed=mixed, **sizes)


# -- floors and corners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GPUS)
@given(make=operators())
@settings(max_examples=20, deadline=None)
def test_no_price_undercuts_the_roofline(name, make):
    device = Device(catalog.gpu(name))
    for dtype in device.spec.peak_flop_per_s:
        op = make(dtype)
        price, floor_s = device.price(op), float(device.floor_s(op))
        assert float(price.seconds) >= floor_s * (1 - 1e-12)
        assert float(price.launch_s) > 0.0
        assert 0.0 < float(device.sigma(op, price)) < 2.0


@pytest.mark.parametrize("name", GPUS)
def test_the_floor_is_the_roofline_of_the_data_sheet(name):
    device = Device(catalog.gpu(name))
    bandwidth = device.spec.memory_bandwidth_bytes_per_s
    for dtype, peak in device.spec.peak_flop_per_s.items():
        weights = 8192 * 8192 * BYTES_PER_ELEMENT[dtype]
        big, thin = gemm(16_384, 8192, 8192, dtype), gemm(1, 8192, 8192, dtype)
        arithmetic_s = 2 * 16_384 * 8192 * 8192 / peak
        assert float(device.floor_s(big)) == pytest.approx(max(arithmetic_s, weights / bandwidth), rel=1e-12)
        assert float(device.floor_s(thin)) == pytest.approx(weights / bandwidth, rel=1e-12)  # activations may be cached
    vectors = Elementwise(elements=1e8, reads=2, writes=1, dtype="fp16", flop_per_element=10)
    assert float(device.floor_s(vectors)) == pytest.approx(1e9 / device.spec.peak_flop_per_s["fp32"], rel=1e-12)


@pytest.mark.parametrize("name", ["a6000", "h100-sxm", "mi300x"])
@given(make=operators(), clock=st.floats(0.3, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_clock_slows_arithmetic_and_nothing_by_more_than_itself(name, make, clock):
    device = Device(catalog.gpu(name))
    op = make("fp16")
    full, slow = device.price(op), device.price(op, clock)
    other_tile = 0.01  # a slower clock may choose another
    assert float(full.seconds) <= float(slow.seconds) * (1 + other_tile)
    assert float(slow.seconds) <= float(full.seconds) / clock * (1 + other_tile)
    if not isinstance(op, Gemm | GroupedGemm):  # whose memory traffic overlaps, and whose tiles depend on the clock
        assert float(slow.memory_s) == float(full.memory_s)
        assert float(slow.launch_s) == float(full.launch_s)
        assert float(slow.compute_s) == pytest.approx(float(full.compute_s) / clock, rel=1e-12)


@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=30), n=widths, k=widths)
@settings(max_examples=40, deadline=None)
def test_an_array_of_sizes_is_priced_as_one_by_one(sizes, n, k):
    device = Device(catalog.gpu("h100-sxm"))
    many = np.asarray(sizes, float)
    kinds = [
        lambda t: gemm(t, n, k),
        lambda t: GroupedGemm(tokens=t, n=n, k=k, experts=64, top_k=6, dtype="bf16", weight_dtype="fp8"),
        lambda t: Elementwise(elements=t * n, reads=2, writes=1, dtype="bf16"),
        lambda t: Embedding(tokens=t, width=n, dtype="bf16"),
        lambda t: AttentionPrefill(pairs=t * (t + 1) / 2, queries=t, kv_tokens=t, **GROUPED | {"kv_dtype": "fp8"}),
        lambda t: AttentionDecode(pairs=t * k, queries=t, kv_tokens=t * k, **GROUPED | {"kv_dtype": "fp8"}),
    ]
    for make in kinds:
        together = device.price(make(many))
        sigma = device.sigma(make(many), together)
        for i, size in enumerate(many.tolist()):
            alone = device.price(make(size))
            assert together.seconds[i] == pytest.approx(float(alone.seconds), rel=1e-12)
            assert together.compute_bound[i] == alone.compute_bound
            assert sigma[i] == float(device.sigma(make(size), alone))


def test_a_missing_dtype_is_refused_with_the_gpu_what_it_has_and_what_to_do():
    with pytest.raises(FleetcastError) as caught:
        Device(catalog.gpu("a100-80gb-sxm")).price(gemm(16, 4096, 4096, "fp8"))
    message = str(caught.value)
    assert "a100-80gb-sxm has no fp8 arithmetic" in message
    assert "bf16" in message
    assert "set activation_dtype to one of these" in message
    narrow_weights = gemm(16, 4096, 4096, "bf16", "fp8")  # the remedy works
    wide_weights = gemm(16, 4096, 4096, "bf16", "bf16")
    device = Device(catalog.gpu("a100-80gb-sxm"))
    assert device.price(narrow_weights).memory_s < device.price(wide_weights).memory_s


# -- experts and attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(4, 2, 3), (5, 1, 4), (4, 3, 3), (6, 2, 2), (3, 3, 2)])
def test_active_experts_are_the_mean_over_every_possible_routing(experts, top_k, tokens):
    choices = list(itertools.combinations(range(experts), top_k))
    routings = itertools.product(choices, repeat=tokens)
    touched = [len(set().union(*routing)) for routing in routings]
    op = GroupedGemm(tokens=tokens, n=8, k=8, experts=experts, top_k=top_k, dtype="bf16", weight_dtype="bf16")
    assert float(op.active_experts) == pytest.approx(sum(touched) / len(touched), rel=1e-12)


def test_a_lone_token_reads_its_own_experts_and_a_crowd_reads_all():
    one = GroupedGemm(tokens=1, n=64, k=32, experts=64, top_k=6, dtype="bf16", weight_dtype="fp8")
    assert float(one.moved_bytes) == pytest.approx(6 * 64 * 32 * 1 + 6 * (64 + 32) * 2, rel=1e-12)
    crowd = GroupedGemm(tokens=1e6, n=64, k=32, experts=64, top_k=6, dtype="bf16", weight_dtype="fp8")
    assert float(crowd.active_experts) == pytest.approx(64, rel=1e-12)


# Kinds whose libraries change tiles as they grow may save a little by a few more rows (measured as well as priced).
SAVED_BY_ANOTHER_TILE = 0.04
SAVED_S = 1e-6  # of tiny products, whose tiles differ by less than a launch


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "h200", "l4", "mi300x"])
@given(tokens=st.integers(1, 50_000), more=st.integers(1, 5000), width=st.integers(64, 8192))
@settings(max_examples=40, deadline=None)
def test_more_tokens_are_never_cheaper(name, tokens, more, width):
    device = Device(catalog.gpu(name))
    exactly = [
        lambda t: AttentionDecode(pairs=t * 8, queries=8, kv_tokens=t * 8, **GROUPED),
        lambda t: AttentionDecode(pairs=t * 8, queries=8, kv_tokens=t * 8, **LATENT),
        lambda t: AttentionPrefill(pairs=t * 512, queries=512, kv_tokens=t, **GROUPED),
        lambda t: Elementwise(elements=t * width, reads=1, writes=1, dtype="bf16"),
        lambda t: Embedding(tokens=t, width=width, dtype="bf16"),
    ]
    nearly = [
        lambda t: gemm(t, width, 4096),
        lambda t: GroupedGemm(tokens=t, n=width, k=2048, experts=64, top_k=6, dtype="bf16", weight_dtype="bf16"),
    ]
    for kinds, saved in ((exactly, 1e-12), (nearly, SAVED_BY_ANOTHER_TILE)):
        for make in kinds:
            few, many = device.price(make(float(tokens))), device.price(make(float(tokens + more)))
            slack_s = SAVED_S if kinds is nearly else 0.0
            assert float(few.seconds) * (1 - saved) - slack_s <= float(many.seconds)


def test_latent_attention_of_many_heads_is_bound_by_arithmetic_and_grouped_queries_by_memory():
    device = Device(catalog.gpu("h100-sxm"))
    common = {"pairs": 1e6, "queries": 64, "kv_tokens": 1e6}
    latent, grouped = AttentionDecode(**common, **LATENT), AttentionDecode(**common, **GROUPED)
    assert device.price(latent).compute_bound
    assert not device.price(grouped).compute_bound
    assert latent.latent
    assert not grouped.latent
    assert latent.flop == 2 * 1e6 * 128 * (576 + 512)
    assert latent.moved_bytes == 1e6 * 576 * 2 + 64 * 128 * (576 + 512) * 2


def test_sizes_nobody_measured_have_error_bars_twice_as_wide():
    device = Device(catalog.gpu("h100-sxm"))
    inside, beyond = gemm(512, 8192, 8192), gemm(512, 1_000_000, 8192)
    assert not device.outside(inside)
    assert device.outside(beyond)
    for op, times in ((inside, 1.0), (beyond, 2.0)):
        price = device.price(op)
        assert float(device.sigma(op, price)) == pytest.approx(times * float(device.kernel(op).sigma(price)))
