"""Matrix products and passes over elements: tiles, waves, streaming, splits of k, experts' blocks, and the L2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.kernels import elementwise, gemm, grouped_gemm
from hardware_models.kernels.gemm import QUANTISE_START, overlapped, price_gemm, wave_time
from hardware_models.kernels.grouped_gemm import BLOCKS, _blocks_per_expert, price_grouped_gemm
from hardware_models.ops import Elementwise, Gemm, GroupedGemm

A100, H100 = Device(catalog.gpu("a100-80gb-sxm")), Device(catalog.gpu("h100-sxm"))
MEASURED = ["a100-80gb-sxm", "h100-sxm", "l40s", "rtx-pro-6000", "a40"]
HALF_DEAD = 0.5  # a prediction for devices that were timed uses at least this share of bandwidth on large weights


def product(m, n, k, dtype="bf16", weight_dtype=None) -> Gemm:
    return Gemm(m=m, n=n, k=k, dtype=dtype, weight_dtype=weight_dtype or dtype)


def seconds(device: Device, op) -> np.ndarray:
    return np.asarray(device.price(op).seconds)


# -- dense products ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", [128, 256])
def test_a_row_beyond_whole_tiles_costs_visibly_more_on_an_a100(tiles):
    rows = np.array([tiles - 1.0, tiles, tiles + 1.0])
    before, full, beyond = seconds(A100, product(rows, 128 * A100.spec.sm_count, 8192))
    assert beyond > 1.2 * full  # a row of tiles more, and so a further wave
    assert before == pytest.approx(full, rel=0.02)


def test_a_wave_of_tiles_beyond_the_multiprocessors_costs_visibly_more():
    columns = 128.0 * np.array([A100.spec.sm_count, A100.spec.sm_count + 2])
    full, beyond = seconds(A100, product(256, columns, 8192))
    assert beyond > 1.1 * full  # for two hundredths more arithmetic
    parameters = gemm.START | {"wave_quantisation": 1.0}
    assert wave_time(np.array([1.0, 1.01, 2.0, 2.5]), parameters).tolist() == [1.0, 2.0, 2.0, 3.0]
    smooth = gemm.START | {"wave_quantisation": 1e-9}
    assert wave_time(np.array([1.5, 2.25]), smooth) == pytest.approx([1.5, 2.25])


@pytest.mark.parametrize("name", MEASURED)
def test_skinny_products_stream_their_weights(name):
    device = Device(catalog.gpu(name))
    op = product(np.array([1.0, 4.0, 16.0]), 28_672, 8192)
    price = device.price(op)
    assert not price.compute_bound.any()
    stream_s = op.stored_bytes / device.spec.memory_bandwidth_bytes_per_s
    assert (price.seconds >= stream_s).all()
    assert (price.seconds <= stream_s / HALF_DEAD).all()
    assert price.seconds[2] < 1.1 * price.seconds[0]  # sixteen rows for the price of one
    fewer = device.price(product(1.0, 28_672, 8192, "bf16", "int4"))
    assert float(fewer.seconds) < 0.5 * price.seconds[0]  # a quarter of the bytes


@pytest.mark.parametrize("name", MEASURED)
def test_large_products_run_near_the_peak_and_never_above(name):
    device = Device(catalog.gpu(name))
    op = product(16_384.0, 8192, 8192)
    share = op.flop / device.peak_flop_per_s("bf16") / float(device.price(op).seconds)
    assert HALF_DEAD < share <= 1.0


def test_splitting_k_spreads_few_tiles_over_idle_multiprocessors():
    spec, parameters = H100.spec, gemm.START
    peak = H100.peak_flop_per_s("bf16")
    long = product(64.0, 256, 65_536)
    price = price_gemm(long, parameters, spec, peak)
    dear = price_gemm(long, parameters | {"split_s": 1e-3}, spec, peak)  # a second kernel that costs too much
    assert float(dear.seconds) > 1.5 * float(price.seconds)
    full = product(8192.0, 8192, 4096)  # tiles enough without splitting: its price does not matter
    free, forbidding = (price_gemm(full, parameters | {"split_s": s}, spec, peak) for s in (1e-7, 1e-3))
    assert float(free.seconds) == pytest.approx(float(forbidding.seconds), rel=0.05)


@pytest.mark.parametrize("name", ["h100-sxm", "l40s"])
def test_8_bit_products_round_their_activations_first_and_still_win_when_large(name):
    device = Device(catalog.gpu(name))
    rows = np.array([1.0, 512.0, 8192.0])
    wide, narrow = (device.price(product(rows, 8192, 8192, dtype)) for dtype in ("bf16", "fp8"))
    assert (narrow.seconds < wide.seconds).all()
    assert (narrow.seconds > 0.5 * wide.seconds).all()  # half the bytes, twice the rate, and rounding on top
    assert (np.diff(narrow.launch_s) > 0).all()


def test_rounding_to_8_bits_costs_its_launch_its_rows_and_its_bytes():
    peak = H100.peak_flop_per_s("fp8")
    op = product(np.array([64.0, 4096.0]), 4096, 8192, "fp8")
    without, parameters = gemm.START, gemm.START | QUANTISE_START
    extra = price_gemm(op, parameters, H100.spec, peak).seconds - price_gemm(op, without, H100.spec, peak).seconds
    bandwidth = H100.spec.memory_bandwidth_bytes_per_s * QUANTISE_START["quantise_fraction"]
    rows_s = op.m * QUANTISE_START["quantise_row_s"] / H100.spec.sm_count
    by_hand = QUANTISE_START["quantise_launch_s"] + rows_s + op.m * 8192 * 3 / bandwidth
    assert extra == pytest.approx(by_hand, rel=1e-9)


def test_a_benchmark_that_repeats_small_weights_finds_them_in_the_l2():
    spec, peak, op = H100.spec, H100.peak_flop_per_s("bf16"), product(16.0, 2048, 2048)
    served, repeated = (price_gemm(op, gemm.START, spec, peak, weight_copies=n) for n in (0, 1))
    many = price_gemm(op, gemm.START, spec, peak, weight_copies=1000)
    assert float(repeated.seconds) < float(served.seconds)
    assert float(many.seconds) == pytest.approx(float(served.seconds), rel=0.05)


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.5, 20))
def test_overlapping_takes_the_longer_at_least_and_the_sum_at_most(compute, memory, power):
    largest = max(compute, memory)
    together = largest * float(overlapped(np.asarray(compute / largest), np.asarray(memory / largest), power))
    assert largest * (1 - 1e-12) <= together <= (compute + memory) * (1 + 1e-12)


# -- experts -----------------------------------------------------------------------------------------------------------


def experts(tokens, balanced=False, dtype="bf16", count=64, top_k=6, n=2816, k=2048) -> GroupedGemm:
    return GroupedGemm(
        tokens=tokens, n=n, k=k, experts=count, top_k=top_k, dtype=dtype, weight_dtype=dtype, balanced=balanced
    )


def test_balanced_and_random_routing_of_a_lone_token_cost_the_same():
    assert float(seconds(H100, experts(1.0, True))) == pytest.approx(float(seconds(H100, experts(1.0))), rel=1e-12)


def test_random_routing_reads_fewer_experts_when_few_and_pads_more_blocks_when_many():
    few, many = np.array([4.0, 8.0, 16.0]), np.array([4096.0, 8192.0])
    assert (experts(few).active_experts < experts(few, True).active_experts).all()
    assert (seconds(H100, experts(few)) < seconds(H100, experts(few, True))).all()
    assert (seconds(H100, experts(many)) >= 0.99 * seconds(H100, experts(many, True))).all()


@given(st.integers(1, 5000), st.sampled_from([(8, 2), (64, 6), (256, 8)]))
@settings(max_examples=30, deadline=None)
def test_expected_blocks_are_those_of_random_draws(tokens, sizes):
    count, top_k = sizes
    op = experts(float(tokens), count=count, top_k=top_k)
    rows, active = np.full((1, 1), tokens * top_k, float), np.full((1, 1), float(op.active_experts))
    expected = _blocks_per_expert(rows, active, np.full((1, 1), count, float), balanced=False)[0] * active[0, 0]
    drawn = np.random.default_rng(0).binomial(tokens, top_k / count, (1000, count))
    for block, mean in zip(BLOCKS, expected.tolist(), strict=True):
        assert mean == pytest.approx(np.ceil(drawn / block).sum(axis=1).mean(), rel=0.08)
        assert mean >= active[0, 0]


def test_balanced_rows_fill_whole_blocks_by_hand():
    rows, active = np.array([[640.0]]), np.array([[64.0]])  # ten rows an expert
    assert _blocks_per_expert(rows, active, active, balanced=True)[0].tolist() == [1, 1, 1, 1, 1]
    assert _blocks_per_expert(rows * 10, active, active, balanced=True)[0].tolist() == [7, 4, 2, 1, 1]


def test_second_blocks_of_an_expert_read_its_weights_again_only_as_far_as_fitted():
    spec, peak, op = H100.spec, H100.peak_flop_per_s("bf16"), experts(8192.0, True)
    never, always = (
        price_grouped_gemm(op, grouped_gemm.START | {"reread": share}, spec, peak) for share in (1e-9, 1.0)
    )
    assert float(always.memory_s) > 1.1 * float(never.memory_s)


# -- passes over elements ----------------------------------------------------------------------------------------------


def test_a_pass_over_what_the_l2_holds_is_faster_a_byte_than_one_over_memory():
    parameters, spec = elementwise.START, A100.spec
    small, large = (
        elementwise.price_elementwise(
            Elementwise(elements=elements, reads=1, writes=1, dtype="bf16"), parameters, spec
        ).memory_s / elements
        for elements in (spec.l2_bytes / 40, spec.l2_bytes * 40)
    )  # fmt: skip
    streamed = 4 / (spec.memory_bandwidth_bytes_per_s * parameters["memory_fraction"])
    assert float(large) == pytest.approx(streamed, rel=1e-3)
    assert float(small) == pytest.approx(streamed / parameters["l2_ratio"], rel=1e-2)


@pytest.mark.parametrize("name", MEASURED)
def test_a_long_pass_is_bound_by_memory_and_a_short_one_by_its_launch(name):
    device = Device(catalog.gpu(name))
    short, long = (
        device.price(Elementwise(elements=n, reads=2, writes=1, dtype="bf16", flop_per_element=5)) for n in (1e3, 1e9)
    )
    assert float(short.launch_s) > 0.9 * float(short.seconds)
    assert not long.compute_bound
    assert float(long.memory_s) >= 6e9 / device.spec.memory_bandwidth_bytes_per_s
