"""Attention formulas: never below the roofline, growing with what they read, and lines in what an engine sums up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.kernels.attention_decode import LATENT, PACKED, UNPACKED, price_decode
from hardware_models.kernels.attention_decode import START as DECODE_START
from hardware_models.kernels.attention_keys import attention_keys
from hardware_models.kernels.attention_prefill import FLASH_ATTENTION_2, FLASH_ATTENTION_3, prefill_lines
from hardware_models.kernels.attention_prefill import START as PREFILL_START
from hardware_models.ops import AttentionDecode, AttentionPrefill

GPUS = st.sampled_from(["a100-80gb-sxm", "h100-sxm", "l40s", "rtx-4090", "rtx-pro-6000", "mi300x"])
HEADS = st.sampled_from([(32, 8), (8, 1), (64, 64), (28, 4), (1, 1)])
DIMS = st.sampled_from([64, 128, 192, 256])
KV_DTYPES = st.sampled_from(["bf16", "fp8"])
# any device's parameters, some of them beyond what a data sheet allows
SCALES = st.floats(0.2, 5.0)


def scaled(start: Mapping[str, float], facts: Mapping[str, float], scale: float) -> dict[str, float]:
    return {name: value * scale for name, value in start.items()} | dict(facts)


def shape(heads=(32, 8), dim=128, kv_dtype="bf16"):
    width = 2 * heads[1] * dim
    return {"heads": heads[0], "kv_heads": heads[1], "qk_dim": dim, "v_dim": dim, "kv_width": width,
            "dtype": "bf16", "kv_dtype": kv_dtype}  # fmt: skip


def decode_op(sequences, kv_tokens, **of):
    return AttentionDecode(pairs=kv_tokens, queries=sequences, kv_tokens=kv_tokens, **shape(**of))


def prefill_op(batch, new, past, window=0, **of):
    pairs = batch * (new * past + new * (new + 1) / 2)
    sizes = {"pairs": pairs, "queries": batch * new, "kv_tokens": batch * (new + past), "sequences": batch}
    return AttentionPrefill(**sizes, window=window, **shape(**of))


def decode(gpu="h100-sxm", parameters=None, resident=False, **sizes):
    return price_decode(decode_op(**sizes), parameters or {**DECODE_START, **PACKED}, catalog.gpu(gpu), resident)


def priced(op, gpu="h100-sxm", parameters=None):
    lines = prefill_lines(op, parameters or {**PREFILL_START, **FLASH_ATTENTION_2}, catalog.gpu(gpu))
    return lines.price(np.asarray(op.pairs, float), np.asarray(op.kv_tokens, float))


def prefill(batch, new, past, gpu="h100-sxm", parameters=None, **of):
    return priced(prefill_op(batch, new, past, **of), gpu, parameters)


def above_roofline(op, price, gpu) -> bool:
    spec = catalog.gpu(gpu)
    floor = max(op.flop / spec.peak_flop_per_s["bf16"], op.moved_bytes / spec.memory_bandwidth_bytes_per_s)
    return float(price.seconds) >= floor * (1 - 1e-12)


@given(
    GPUS,
    HEADS,
    DIMS,
    KV_DTYPES,
    st.integers(1, 2048),
    st.integers(1, 100_000),
    SCALES,
    st.sampled_from([PACKED, UNPACKED]),
)
def test_decode_is_never_below_the_roofline(gpu, heads, dim, kv_dtype, sequences, context, scale, facts):
    op = decode_op(sequences, float(sequences * context), heads=heads, dim=dim, kv_dtype=kv_dtype)
    price = price_decode(op, scaled(DECODE_START, facts, scale), catalog.gpu(gpu))
    assert above_roofline(op, price, gpu)


@given(
    GPUS,
    HEADS,
    DIMS,
    KV_DTYPES,
    st.integers(1, 64),
    st.integers(1, 20_000),
    st.integers(0, 50_000),
    SCALES,
    st.sampled_from([FLASH_ATTENTION_2, FLASH_ATTENTION_3]),
)
def test_prefill_is_never_below_the_roofline(gpu, heads, dim, kv_dtype, batch, new, past, scale, facts):
    op = prefill_op(batch, new, past, heads=heads, dim=dim, kv_dtype=kv_dtype)
    assert above_roofline(op, priced(op, gpu, scaled(PREFILL_START, facts, scale)), gpu)


@given(GPUS, HEADS, DIMS, st.integers(1, 1024), SCALES, st.booleans(), st.sampled_from([PACKED, UNPACKED]))
def test_decode_grows_with_the_keys(gpu, heads, dim, sequences, scale, resident, facts):
    parameters = scaled(DECODE_START, facts, scale)
    keys = sequences * np.unique(np.geomspace(1, 200_000, 400).round())
    price = decode(gpu, parameters, resident, sequences=sequences, kv_tokens=keys, heads=heads, dim=dim)
    assert np.all(np.diff(price.seconds) >= -1e-12 * price.seconds[1:])


@given(GPUS, HEADS, DIMS, st.integers(1, 300), st.integers(1, 30_000))
def test_another_equal_sequence_never_makes_decoding_cheaper_than_its_reduction(gpu, heads, dim, sequences, context):
    """Where the last sequence fills the device, contexts are not split any more: their second kernel goes."""
    before, after = (
        decode(gpu, sequences=n, kv_tokens=n * context, heads=heads, dim=dim) for n in (sequences, sequences + 1)
    )
    saved = DECODE_START["combine_s"] + DECODE_START["split_s"] * catalog.gpu(gpu).sm_count
    assert float(after.seconds) >= float(before.seconds) - saved


@given(HEADS, DIMS, st.integers(1, 40), st.integers(1, 5000), st.sampled_from([0, 128, 4096]), SCALES)
def test_prefill_is_a_maximum_of_lines(heads, dim, batch, new, window, scale):
    parameters = scaled(PREFILL_START, FLASH_ATTENTION_3, scale)
    past = np.array([0.0, 100.0, 10_000.0])
    op = prefill_op(batch, new, past, window, heads=heads, dim=dim)
    lines = prefill_lines(op, parameters, catalog.gpu("l40s"))
    slopes = [slope for line in (*lines.compute, *lines.memory) for slope in (line.s_per_pair, line.s_per_kv_token)]
    assert all(float(slope) >= 0 for slope in slopes)
    price, pairs, keys = priced(op, "l40s", parameters), op.pairs, op.kv_tokens
    values = [line.at(pairs, keys) for line in (*lines.compute, *lines.memory)]
    assert np.allclose(price.seconds, lines.launch_s + np.max(values, axis=0), rtol=1e-12)
    assert np.all(np.diff(price.seconds) >= 0)


def test_sizes_broadcast_to_the_values_of_single_calls():
    keys = np.array([1000.0, 20_000.0, 300_000.0])
    many = decode(sequences=np.array([1.0, 8.0, 64.0]), kv_tokens=keys).seconds
    single = [float(decode(sequences=n, kv_tokens=k).seconds) for n, k in zip((1, 8, 64), keys, strict=True)]
    assert many.tolist() == single


def test_a_cache_that_holds_the_keys_is_faster_but_only_for_benchmarks():
    cold, warm = (decode("l40s", sequences=8, kv_tokens=8 * 1024, resident=held) for held in (False, True))
    assert float(warm.seconds) < float(cold.seconds)
    cold, warm = (decode("l40s", sequences=64, kv_tokens=64 * 8192, resident=held) for held in (False, True))
    assert float(warm.seconds) == pytest.approx(float(cold.seconds))


def test_a_quarter_of_the_kv_heads_reads_a_quarter():
    grouped, full = (decode(heads=heads, sequences=64, kv_tokens=64 * 8192) for heads in ((32, 8), (32, 32)))
    ratio = float(full.memory_s) / float(grouped.memory_s)
    assert 3.5 < ratio <= 4.0


def test_unpacked_heads_read_the_keys_again():
    packed, unpacked = (
        decode("rtx-4090", parameters={**DECODE_START, **facts}, sequences=128, kv_tokens=128 * 16_384)
        for facts in (PACKED, UNPACKED)
    )
    assert float(unpacked.seconds) / float(packed.seconds) == pytest.approx(4.0, rel=0.05)


def test_latent_attention_reads_one_vector_a_token():
    parameters = {**DECODE_START, **LATENT}
    latent = {"heads": 16, "kv_heads": 1, "qk_dim": 576, "v_dim": 512, "kv_width": 576}
    kv_tokens = 128 * 32_768.0
    op = AttentionDecode(pairs=kv_tokens, queries=128.0, kv_tokens=kv_tokens, dtype="bf16", kv_dtype="bf16", **latent)
    price = price_decode(op, parameters, catalog.gpu("h100-sxm"))
    stream_s = 128 * 32_768 * 576 * 2 / (3.35e12 * DECODE_START["memory_fraction"])
    assert float(price.memory_s) == pytest.approx(stream_s, rel=0.05)


def test_a_lone_chunk_costs_its_longest_block():
    """16 or 64 query rows are one block a head either way: 32 heads leave most of the device idle."""
    small, large = (float(prefill(1, new, 16_384).seconds) for new in (16, 64))
    assert small == pytest.approx(large, rel=0.02)
    assert float(prefill(1, 1024, 16_384).seconds) > 2 * large


def test_long_kernels_run_at_the_power_limit():
    without = {**PREFILL_START, **FLASH_ATTENTION_2, "throttle_fraction": 1e-9}
    short, long = (
        float(prefill(1, new, 0).seconds) / float(prefill(1, new, 0, parameters=without).seconds)
        for new in (1024, 32_768)
    )
    assert short == pytest.approx(1.0)
    assert 1.05 < long < 1.0 + PREFILL_START["throttle_fraction"]


def test_a_window_bounds_the_longest_block():
    whole = prefill_op(1, 16_384, 0, window=128, heads=(1, 1))
    windowed = priced(replace(whole, pairs=16_384 * 128.0))
    assert float(windowed.seconds) < float(prefill(1, 16_384, 0, heads=(1, 1)).seconds) / 5


def test_keys_are_looked_for_from_the_special_to_the_plain():
    assert attention_keys("bf16", "fp8", qk_dim=128) == ["bf16/fp8"]
    assert attention_keys("bf16", "bf16", qk_dim=256, window=1024, mixed=True) == [
        "bf16/bf16:window-wide",
        "bf16/bf16:window",
        "bf16/bf16:mixed",
        "bf16/bf16:wide",
        "bf16/bf16",
    ]
    assert attention_keys("bf16", "bf16", qk_dim=576, latent=True) == ["bf16/bf16:mla", "bf16/bf16"]
