"""Training attention: its work by the papers' counts, its price by blocks, and who may run which implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.errors import ImpossibleError, UnknownNameError
from hardware_models.kernels.attention_training import IMPLEMENTATIONS, START, TILE, price_attention_training
from hardware_models.ops import AttentionTraining

GPUS = st.sampled_from(["a100-80gb-sxm", "h100-sxm", "b200", "mi300x"])
PASSES = st.sampled_from([False, True])
SCALES = st.floats(0.3, 3.0)


def attention(
    batch=4, queries=4096, keys=None, heads=16, kv_heads=None, dim=128, dtype="bf16", **of
) -> AttentionTraining:
    sizes = {"batch": batch, "queries": queries, "keys": queries if keys is None else keys, "heads": heads}
    kv_heads = heads if kv_heads is None else kv_heads
    return AttentionTraining(**sizes, kv_heads=kv_heads, qk_dim=dim, v_dim=dim, dtype=dtype, **of)


@st.composite
def operators(draw: st.DrawFn) -> AttentionTraining:
    groups, kv_heads = draw(st.sampled_from([(1, 8), (8, 1), (4, 8), (1, 1), (1, 96)]))
    return attention(
        batch=draw(st.integers(1, 64)),
        queries=draw(st.integers(1, 40_000)),
        keys=draw(st.integers(1, 40_000)),
        heads=groups * kv_heads,
        kv_heads=kv_heads,
        dim=draw(st.sampled_from([64, 80, 96, 128, 192, 256])),
        causal=(causal := draw(PASSES)),
        window=draw(st.one_of(st.just(0), st.integers(1, 50_000))) if causal else 0,
        backward=draw(PASSES),
        implementation=draw(st.sampled_from(IMPLEMENTATIONS)),
    )


# -- the operator ------------------------------------------------------------------------------------------------------


def test_work_is_that_of_the_papers() -> None:
    """FlashAttention-2, section 4.1: 4 x seqlen^2 x head dimension x heads, 2.5 times backward, half if causal."""
    full = attention(batch=1, causal=False)
    assert full.flop == 4 * 4096**2 * 128 * 16
    assert replace(full, backward=True).flop == 2.5 * full.flop
    assert replace(full, causal=True).flop == 0.5 * full.flop


def test_a_causal_mask_ends_at_the_last_query_and_key() -> None:
    assert attention(queries=1000, keys=3000).visible == 1000 * 2000 + 1000 * 1000 / 2
    assert attention(queries=3000, keys=1000).visible == 1000 * 1000 / 2  # queries before the first key see nothing
    assert attention(queries=3000, keys=1000, causal=False).visible == 3e6


def test_bytes_are_the_tensors_once() -> None:
    op = attention(batch=2, queries=1024, heads=8, kv_heads=2, dim=64)
    query, key, row = 2 * 1024 * 8 * 64 * 2, 2 * 1024 * 2 * 64 * 2, 2 * 1024 * 8 * 4
    assert op.saved_bytes == op.moved_bytes == 2 * query + 2 * key + row
    assert replace(op, backward=True).moved_bytes == 2 * (2 * query + 2 * key) + row
    assert op.stored_bytes == 0.0


def test_sizes_may_be_arrays() -> None:
    lengths = np.array([512.0, 2048.0, 16384.0])
    device = Device(catalog.gpu("a100-80gb-sxm"))
    together = device.price(attention(batch=16384 / lengths, queries=lengths, keys=lengths)).seconds
    apart = [float(device.price(attention(batch=16384 / s, queries=s)).seconds) for s in lengths]
    assert together == pytest.approx(apart)


# -- its price ---------------------------------------------------------------------------------------------------------


@given(GPUS, operators(), SCALES)
@settings(max_examples=200, deadline=None)
def test_no_price_undercuts_the_roofline(gpu: str, op: AttentionTraining, scale: float) -> None:
    spec = catalog.gpu(gpu)
    price = price_attention_training(op, {name: value * scale for name, value in START.items()}, spec)
    floor = max(op.flop / spec.peak_flop_per_s["bf16"], op.moved_bytes / spec.memory_bandwidth_bytes_per_s)
    assert float(price.seconds) >= floor * (1 - 1e-12)


@given(operators(), st.sampled_from(["batch", "heads", "queries", "keys"]), st.integers(1, 5000))
@settings(max_examples=300, deadline=None)
def test_more_of_anything_is_never_faster(op: AttentionTraining, name: str, more: int) -> None:
    device = Device(catalog.gpu("h100-sxm"))
    if op.causal and name in ("queries", "keys"):  # of unequal ones the mask may leave less
        op = replace(op, keys=op.queries)
        larger = replace(op, queries=op.queries + more, keys=op.keys + more)
    else:
        larger = replace(op, **{name: getattr(op, name) + (more * op.kv_heads if name == "heads" else more)})
    assert float(device.price(larger).seconds) >= float(device.price(op).seconds) * (1 - 1e-9)


@given(operators())
@settings(max_examples=200, deadline=None)
def test_a_mask_costs_no_time_but_its_own_arithmetic(op: AttentionTraining) -> None:
    masked, full = replace(op, causal=True), replace(op, causal=False, window=0)
    spec, plain = catalog.gpu("h100-sxm"), {**START, "mask_work": 1.0}
    hidden, shown = (float(price_attention_training(one, plain, spec).compute_s) for one in (masked, full))
    assert hidden <= shown * (1 + 1e-9)


@given(GPUS, operators(), st.integers(1, 50_000))
@settings(max_examples=100, deadline=None)
def test_a_window_costs_no_more_than_a_wider_one_and_nothing_where_it_hides_nothing(
    gpu: str, op: AttentionTraining, more: int
) -> None:
    spec = catalog.gpu(gpu)
    op = replace(op, causal=True, window=op.window or op.keys)
    narrow, wide, whole = (
        float(price_attention_training(one, START, spec).seconds)
        for one in (op, replace(op, window=op.window + more), replace(op, window=0))
    )
    assert narrow <= wide * (1 + 1e-9)
    assert wide <= whole * (1 + 1e-9)
    square = replace(op, keys=op.queries, window=0)
    holding = replace(square, window=op.queries + TILE)
    prices = [float(price_attention_training(one, START, spec).seconds) for one in (square, holding)]
    assert prices[0] == prices[1]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 400))
def test_a_window_leaves_each_query_its_last_keys(queries: int, keys: int, window: int) -> None:
    rows = np.arange(max(0, queries - keys), queries) + 0.5  # of the middle of a row: half of it is masked
    seen = np.minimum(keys - queries + rows, window)
    counted = attention(batch=1, queries=queries, keys=keys, window=window).visible
    assert counted == pytest.approx(seen.sum(), abs=0.2)


def test_short_causal_sequences_waste_half_a_tile_a_block() -> None:
    """Of n x n tiles n (n + 1) / 2 are walked, against n^2 / 2 that the mask leaves."""
    spec = catalog.gpu("a100-80gb-sxm")
    bare = {**START, "launch_s": 1e-12, "block_s": 1e-15, "tail_fraction": 1e-9, "mask_work": 1.0}
    for tiles in (1, 2, 4, 32):
        op = attention(batch=54 * 64, queries=tiles * TILE, heads=2)  # whole turns
        walked = price_attention_training(op, bare, spec).compute_s
        full = price_attention_training(replace(op, causal=False), bare, spec).compute_s
        assert float(walked / full) == pytest.approx((tiles + 1) / (2 * tiles), rel=1e-5)


def test_blocks_that_do_not_fill_the_last_turn_wait_for_it() -> None:
    spec = catalog.gpu("a100-80gb-sxm")  # 108 multiprocessors

    def seconds(blocks: int) -> float:
        return float(price_attention_training(attention(1, 128, heads=blocks, causal=False), START, spec).compute_s)

    assert seconds(1) == seconds(108) < seconds(109) == seconds(216) == pytest.approx(2 * seconds(108))


def test_flash_attention_3_pads_narrow_heads_to_its_taller_blocks() -> None:
    spec = catalog.gpu("h100-sxm")
    many = {"batch": 1000, "queries": 512, "dim": 64, "causal": False}
    tall, plain = (
        price_attention_training(attention(**many, implementation=name), {**START, "block_s": 1e-12}, spec).compute_s
        for name in ("flash3", "flash2")
    )
    assert float(tall / plain) == pytest.approx(576 / 512, rel=0.02)  # three blocks of 192 rows for 512


def test_heads_that_share_keys_add_up_their_gradients() -> None:
    device = Device(catalog.gpu("h100-sxm"))
    own, shared = attention(heads=16, backward=True), attention(heads=16, kv_heads=2, backward=True)
    assert device.price(shared).launch_s > device.price(own).launch_s


def test_a_lower_clock_slows_arithmetic_alone() -> None:
    device = Device(catalog.gpu("h100-sxm"))
    op = attention(backward=True)
    usual, slow = device.price(op), device.price(op, clock=0.5)
    assert slow.compute_s == pytest.approx(2 * usual.compute_s)
    assert (slow.launch_s, slow.memory_s) == (usual.launch_s, usual.memory_s)


# -- calibrated --------------------------------------------------------------------------------------------------------


def tflop_per_s(gpu: str, **of) -> float:
    """Of a long batch, forward and backward together."""
    device = Device(catalog.gpu(gpu))
    ops = [attention(batch=2, queries=8192, causal=False, backward=backward, **of) for backward in (False, True)]
    return float(sum(op.flop for op in ops) / sum(device.price(op).seconds for op in ops)) / 1e12


def test_each_generation_is_faster_as_the_papers_say() -> None:
    assert 1.7 < tflop_per_s("a100-80gb-sxm") / tflop_per_s("a100-80gb-sxm", implementation="flash1") < 3.0
    assert 1.5 < tflop_per_s("h100-sxm", implementation="flash3") / tflop_per_s("h100-sxm") < 2.0
    assert 0.5 < tflop_per_s("a100-80gb-sxm") * 1e12 / catalog.gpu("a100-80gb-sxm").peak_flop_per_s["bf16"] < 0.73


def test_backward_fills_less_of_the_peak_than_forward() -> None:
    for gpu, implementation in (("a100-80gb-sxm", "flash2"), ("h100-sxm", "flash3"), ("h100-sxm", "cudnn")):
        device = Device(catalog.gpu(gpu))
        forward = attention(causal=False, implementation=implementation)
        backward = replace(forward, backward=True)
        assert forward.flop / device.price(forward).seconds > backward.flop / device.price(backward).seconds


def test_backward_of_what_was_timed_forward_alone_is_less_sure() -> None:
    device = Device(catalog.gpu("h100-sxm"))
    for implementation, wider in (("flash3", 2.0), ("cudnn", 2.0), ("flash2", 1.0)):
        forward = attention(implementation=implementation)
        backward = replace(forward, backward=True)
        ratio = device.sigma(backward, device.price(backward)) / device.sigma(forward, device.price(forward))
        assert float(ratio) == pytest.approx(wider), implementation


def test_one_16_bit_format_serves_for_the_other_and_fp8_is_less_sure() -> None:
    device = Device(catalog.gpu("h100-sxm"))
    op = attention(implementation="flash3")
    bf16, fp16, fp8 = (replace(op, dtype=dtype) for dtype in ("bf16", "fp16", "fp8"))
    assert device.price(bf16).seconds == device.price(fp16).seconds > device.price(fp8).seconds
    assert device.sigma(fp8, device.price(fp8)) > device.sigma(bf16, device.price(bf16)) + 0.1


def test_unmeasured_devices_are_priced_from_relatives_with_more_doubt() -> None:
    measured, relative = Device(catalog.gpu("h100-sxm")), Device(catalog.gpu("h200"))
    op = attention()
    assert float(relative.price(op).seconds) == pytest.approx(float(measured.price(op).seconds), rel=0.05)
    assert measured.kernel(op).grade == "quoted"
    assert relative.kernel(op).grade == "assumed"
    assert relative.sigma(op, relative.price(op)) > 2 * measured.sigma(op, measured.price(op))


def test_implementations_that_cannot_be_are_refused() -> None:
    device = Device(catalog.gpu("a100-80gb-sxm"))
    with pytest.raises(
        ImpossibleError, match="flash3': is written for Hopper's instructions, not for ampere; take flash2"
    ):
        device.price(attention(implementation="flash3"))
    with pytest.raises(UnknownNameError, match=r"training\.attention: unknown name 'flsh2'; did you mean 'flash2'"):
        device.price(attention(implementation="flsh2"))
    with pytest.raises(ImpossibleError, match="has no fp8 arithmetic"):
        device.price(attention(dtype="fp8"))
