"""Operator prices: tiles and waves by hand, and the floor that no price undercuts on any device of the catalog."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.efficiency import FOLDER, GemmEfficiency, KernelEfficiency, Tile, efficiency_class
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.ops import AttentionDecode, AttentionPrefill, Elementwise, Embedding, Gemm, GroupedGemm

GPUS = catalog.names("gpu")
CLASSES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "links")

counts = st.integers(1, 70_000)
widths = st.integers(1, 30_000)
stored = st.sampled_from(sorted(BYTES_PER_ELEMENT))


def gemm(m, n, k, dtype="bf16", weight_dtype=None) -> Gemm:
    return Gemm(m=m, n=n, k=k, dtype=dtype, weight_dtype=weight_dtype or dtype)


def one_tile(gpu: str, *, m: int = 128, n: int = 128, fraction: float = 0.8, split_k=(1,)) -> Device:
    """A catalog GPU whose matrix library knows a single tile, so that quantisation can be counted by hand."""
    spec = catalog.gpu(gpu)
    known = efficiency_class(spec.efficiency_class)
    tile = Tile(m=m, n=n, compute_fraction=fraction)
    only = GemmEfficiency(launch_s=3e-6, memory_fraction=0.8, split_k=split_k, tile=(tile,))
    return Device(spec, known.model_copy(update={"gemm": only}))


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
        return lambda dtype: GroupedGemm(
            tokens=tokens, n=n, k=k, experts=experts, top_k=top_k, dtype=dtype, weight_dtype=narrow
        )
    if kind == "elementwise":
        reads, flop = draw(st.integers(0, 8)), draw(st.floats(0.0, 200.0))
        return lambda dtype: Elementwise(elements=tokens * n, reads=reads, writes=1, dtype=dtype, flop_per_element=flop)
    if kind == "embedding":
        return lambda dtype: Embedding(tokens=tokens, width=n, dtype=dtype)
    sizes = {
        "queries": tokens,
        "heads": draw(st.integers(1, 128)),
        "qk_dim": draw(st.integers(1, 576)),
        "v_dim": draw(st.integers(1, 576)),
        "kv_width": draw(st.integers(1, 40_000)),
        "kv_dtype": narrow,
    }
    if kind == "prefill":
        context = draw(st.integers(0, 100_000))
        pairs = tokens * context + tokens * (tokens + 1) // 2
        return lambda dtype: AttentionPrefill(pairs=pairs, kv_tokens=context + tokens, dtype=dtype, **sizes)
    kv_tokens = tokens * draw(st.integers(1, 3000))
    return lambda dtype: AttentionDecode(pairs=kv_tokens, kv_tokens=kv_tokens, dtype=dtype, **sizes)


# -- tiles and waves ---------------------------------------------------------------------------------------------------


def test_a_row_beyond_a_tile_costs_a_whole_row_of_tiles():
    device = one_tile("a6000")
    n = 128 * device.spec.sm_count  # one wave of multiprocessors for each row of tiles
    two, three = device.price(gemm(256, n, 8192)), device.price(gemm(257, n, 8192))
    assert float(three.compute_s / two.compute_s) == pytest.approx(3 / 2, rel=1e-12)
    one_row = 2.0 * 128 * n * 8192 / (device.spec.peak_flop_per_s["bf16"] * 0.8)
    assert float(three.compute_s - two.compute_s) == pytest.approx(one_row, rel=1e-9)
    assert float(three.compute_s) > float(three.memory_s)  # so the quantum shows in the price
    assert float(three.seconds) > float(two.seconds)


def test_the_a6000_pays_for_row_257_about_one_more_tile_of_the_best_size():
    device = Device(catalog.gpu("a6000"))
    n = 128 * device.spec.sm_count
    at_256, at_257 = device.price(gemm(256, n, 8192)), device.price(gemm(257, n, 8192))
    # by hand: 256 rows fill one wave of 256 x 128 tiles at 0.80 of peak; 257 rows go best as five waves of 64 x 128
    # tiles (a quarter of the work each) at 0.688
    assert float(at_257.compute_s / at_256.compute_s) == pytest.approx((5 / 4 / 0.688) / (1 / 0.80), rel=1e-9)
    assert float(at_257.seconds) > 1.2 * float(at_256.seconds)
    assert float(at_257.memory_s / at_256.memory_s) < 1.005


def test_arithmetic_is_flat_while_tiles_and_the_last_wave_have_room():
    device = one_tile("a6000")
    rows = np.arange(129.0, 257.0)
    price = device.price(gemm(rows, 128 * 10, 4096))  # 20 tiles on 84 multiprocessors
    assert np.ptp(price.compute_s) == 0.0
    assert np.all(np.diff(price.memory_s) > 0.0)
    alone = device.price(gemm(1.0, 128, 4096))  # one tile takes as long as 84 of them
    assert float(price.compute_s[0]) == float(alone.compute_s)


def test_a_tile_beyond_the_last_wave_costs_a_whole_wave():
    device = one_tile("a6000")
    full = device.price(gemm(128, 128 * 84, 4096))
    over = device.price(gemm(128, 128 * 84 + 1, 4096))
    assert float(over.compute_s) == 2 * float(full.compute_s)


def test_a_tile_with_one_row_takes_a_multiprocessor_as_a_full_one_does():
    device = one_tile("a6000")
    full = device.price(gemm(128, 128 * 50, 4096))  # 50 of 84 multiprocessors
    over = device.price(gemm(129, 128 * 50, 4096))  # 100 tiles, 50 of them with a single row: a second wave
    assert float(over.compute_s) == 2 * float(full.compute_s)


def test_splitting_k_spreads_few_tiles_over_idle_multiprocessors_at_the_price_of_partial_sums():
    whole, split = one_tile("a6000"), one_tile("a6000", split_k=(1, 4))
    m, n, k = 128, 128 * 20, 65_536
    bandwidth = 0.8 * whole.spec.memory_bandwidth_bytes_per_s
    partial_sums_s = 4 * m * n * 8 / bandwidth  # four fp32 partial results written and read
    a, b = whole.price(gemm(m, n, k)), split.price(gemm(m, n, k))
    assert float(b.compute_s) == pytest.approx(float(a.compute_s) / 4 + partial_sums_s, rel=1e-12)
    busy = gemm(m, 128 * 84, 512)  # a full wave: nothing to spread, so k stays whole
    assert float(split.price(busy).compute_s) == float(whole.price(busy).compute_s)


def test_many_rows_reach_the_best_tiles_share_of_peak():
    for name in GPUS:
        device = Device(catalog.gpu(name))
        dtype = "bf16" if "bf16" in device.spec.peak_flop_per_s else "fp16"
        op = gemm(65_536, 16_384, 16_384, dtype)
        best = max(tile.compute_fraction for tile in device.efficiency.gemm.tile)
        reached = op.flop / device.peak_flop_per_s(dtype) / float(device.price(op).seconds)
        assert 0.98 * best < reached <= best, name


# -- floors and corners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GPUS)
@given(make=operators())
@settings(max_examples=40, deadline=None)
def test_no_price_undercuts_peak_arithmetic_or_peak_bandwidth(name, make):
    device = Device(catalog.gpu(name))
    for dtype in device.spec.peak_flop_per_s:
        op = make(dtype)
        price, floor_s = device.price(op), float(device.floor_s(op))
        assert float(price.seconds) >= floor_s
        assert float(price.memory_s) >= op.moved_bytes / device.spec.memory_bandwidth_bytes_per_s
        assert float(price.launch_s) >= 0.0


@pytest.mark.parametrize("name", GPUS)
def test_the_floor_is_the_roofline_of_the_data_sheet(name):
    device = Device(catalog.gpu(name))
    bandwidth = device.spec.memory_bandwidth_bytes_per_s
    for dtype, peak in device.spec.peak_flop_per_s.items():
        size = BYTES_PER_ELEMENT[dtype]
        big, thin = gemm(16_384, 8192, 8192, dtype), gemm(1, 8192, 8192, dtype)
        assert float(device.floor_s(big)) == pytest.approx(
            max(2 * 16_384 * 8192 * 8192 / peak, (8192 * 8192 + 2 * 16_384 * 8192) * size / bandwidth), rel=1e-12
        )
        assert float(device.floor_s(thin)) == pytest.approx((8192 * 8192 + 2 * 8192) * size / bandwidth, rel=1e-12)
        assert float(device.price(thin).seconds) > float(device.floor_s(thin))
    add = Elementwise(elements=1e8, reads=2, writes=1, dtype="fp32")
    assert float(device.floor_s(add)) == pytest.approx(1e8 * 12 / bandwidth, rel=1e-12)


@pytest.mark.parametrize("name", ["a6000", "h100-sxm", "mi300x"])
@given(make=operators(), clock=st.floats(0.3, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_clock_slows_arithmetic_and_neither_memory_nor_launch(name, make, clock):
    device = Device(catalog.gpu(name))
    op = make("fp16")
    full, slow = device.price(op), device.price(op, clock)
    assert float(slow.memory_s) == float(full.memory_s)
    assert float(slow.launch_s) == float(full.launch_s)
    if isinstance(op, Gemm):  # a slower clock may choose another tile, and partial sums of a split k are memory traffic
        assert float(full.compute_s) <= float(slow.compute_s) <= float(full.compute_s) / clock * (1 + 1e-12)
    else:
        assert float(slow.compute_s) == pytest.approx(float(full.compute_s) / clock, rel=1e-12)


def test_half_the_clock_doubles_a_product_without_split_k():
    device = one_tile("h100-sxm")
    op = gemm(4096, 8192, 8192)
    assert float(device.price(op, 0.5).compute_s) == pytest.approx(2 * float(device.price(op).compute_s), rel=1e-12)
    assert float(device.price(op, 0.5).memory_s) == float(device.price(op).memory_s)


@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=30), n=widths, k=widths)
@settings(max_examples=100, deadline=None)
def test_an_array_of_sizes_is_priced_as_one_by_one(sizes, n, k):
    device = Device(catalog.gpu("h100-sxm"))
    many = np.asarray(sizes, float)
    attention = {"heads": 32, "qk_dim": 128, "v_dim": 128, "kv_width": 2048, "dtype": "bf16", "kv_dtype": "fp8"}
    kinds = [
        lambda t: gemm(t, n, k),
        lambda t: GroupedGemm(tokens=t, n=n, k=k, experts=64, top_k=6, dtype="bf16", weight_dtype="fp8"),
        lambda t: Elementwise(elements=t * n, reads=2, writes=1, dtype="bf16"),
        lambda t: Embedding(tokens=t, width=n, dtype="bf16"),
        lambda t: AttentionPrefill(pairs=t * (t + 1) / 2, queries=t, kv_tokens=t, **attention),
        lambda t: AttentionDecode(pairs=t * k, queries=t, kv_tokens=t * k, **attention),
    ]
    for make in kinds:
        together = device.price(make(many))
        for i, size in enumerate(many.tolist()):
            alone = device.price(make(size))
            assert together.seconds[i] == pytest.approx(float(alone.seconds), rel=1e-12)
            assert together.compute_bound[i] == alone.compute_bound


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


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "h200", "l4", "mi300x"])
@given(tokens=st.integers(1, 50_000), more=st.integers(1, 5000), width=st.integers(64, 8192), heads=st.integers(1, 128))
@settings(max_examples=60, deadline=None)
def test_more_tokens_are_never_cheaper(name, tokens, more, width, heads):
    device = Device(catalog.gpu(name))
    latent = {"heads": heads, "qk_dim": 576, "v_dim": 512, "kv_width": 576, "dtype": "bf16", "kv_dtype": "bf16"}
    kinds = [
        lambda t: gemm(t, width, 4096),
        lambda t: GroupedGemm(tokens=t, n=width, k=2048, experts=64, top_k=6, dtype="bf16", weight_dtype="bf16"),
        lambda t: AttentionDecode(pairs=t, queries=8, kv_tokens=t, **latent),
        lambda t: AttentionPrefill(pairs=t * (t + 1) / 2, queries=t, kv_tokens=t, **latent),
        lambda t: Elementwise(elements=t * width, reads=1, writes=1, dtype="bf16"),
        lambda t: Embedding(tokens=t, width=width, dtype="bf16"),
    ]
    for make in kinds:
        few, many = device.price(make(float(tokens))), device.price(make(float(tokens + more)))
        assert few.seconds <= many.seconds
        assert few.memory_s < many.memory_s


def test_latent_attention_of_many_heads_is_bound_by_arithmetic_and_grouped_queries_by_memory():
    device = Device(catalog.gpu("h100-sxm"))
    common = {"pairs": 1e6, "queries": 64, "kv_tokens": 1e6, "dtype": "bf16", "kv_dtype": "bf16"}
    latent = AttentionDecode(heads=128, qk_dim=576, v_dim=512, kv_width=576, **common)
    grouped = AttentionDecode(heads=32, qk_dim=128, v_dim=128, kv_width=2048, **common)
    assert device.price(latent).compute_bound
    assert not device.price(grouped).compute_bound
    assert latent.flop == 2 * 1e6 * 128 * (576 + 512)
    assert latent.moved_bytes == 1e6 * 576 * 2 + 64 * 128 * (576 + 512) * 2


# -- efficiency files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_every_efficiency_class_loads_and_keeps_within_peak(name):
    table = efficiency_class(name)
    assert table.name == name
    kernels = [table.grouped_gemm, table.attention_prefill, table.attention_decode, table.elementwise, table.embedding]
    fractions = [tile.compute_fraction for tile in table.gemm.tile] + [table.gemm.memory_fraction]
    fractions += [f for kernel in kernels for f in (kernel.compute_fraction, kernel.memory_fraction)]
    assert all(0.0 < fraction <= 1.0 for fraction in fractions)
    assert 1 in table.gemm.split_k  # else no product is ever computed whole
    assert table.source["default"].text


def test_every_gpu_names_an_efficiency_class_and_every_class_serves_a_gpu():
    assert {catalog.gpu(name).efficiency_class for name in GPUS} == set(CLASSES)


def test_a_share_beyond_peak_is_refused():
    with pytest.raises(ValidationError):
        KernelEfficiency(launch_s=0.0, compute_fraction=1.01, memory_fraction=0.5)
    with pytest.raises(ValidationError):
        Tile(m=128, n=128, compute_fraction=1.5)


def test_a_misspelt_efficiency_class_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'hopper'"):
        efficiency_class("hoper")
    with pytest.raises(UnknownNameError):
        efficiency_class("links")
