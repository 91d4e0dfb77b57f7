"""Bubbles equal the closed forms, exactly, where their assumptions hold; whole seconds keep the sums exact."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make, step, times_of

from policies.parallelism.schedules import SlotTimes

DEVICES = st.integers(1, 8)
SECONDS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


@given(st.sampled_from(["gpipe", "1f1b"]), DEVICES, st.integers(1, 24), SECONDS)
@settings(max_examples=60, deadline=None)
def test_gpipe_and_1f1b_idle_for_p_less_one_micro_batches(name, devices, micro_batches, seconds):
    """(m + p - 1)(F + B): GPipe (1811.06965) and Megatron-LM (2104.04473)."""
    schedule = make(name)
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, seconds))
    assert found.makespan_s == (micro_batches + devices - 1) * sum(seconds)
    assert max(found.bubbles_s) == (devices - 1) * sum(seconds)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(2, 4), SECONDS)
@settings(max_examples=60, deadline=None)
def test_interleaving_divides_the_bubble_by_the_chunks(devices, groups, chunks, seconds):
    """(p - 1) / (v m) of the ideal time: Megatron-LM (2104.04473), section 2.2."""
    schedule, micro_batches = make("interleaved_1f1b", chunks=chunks), devices * groups
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, seconds))
    ideal_s = micro_batches * chunks * sum(seconds)
    assert found.makespan_s - ideal_s == (devices - 1) * sum(seconds)
    assert (found.makespan_s - ideal_s) / ideal_s == pytest.approx((devices - 1) / (chunks * micro_batches), rel=1e-14)


@given(st.sampled_from(["breadth_first", "layered"]), DEVICES, st.integers(0, 10), st.integers(1, 4), SECONDS)
@settings(max_examples=60, deadline=None)
def test_breadth_first_divides_the_bubble_too_with_enough_micro_batches(name, devices, more, chunks, seconds):
    schedule, micro_batches = make(name, chunks=chunks), devices + more
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, seconds))
    assert found.makespan_s == (micro_batches * chunks + devices - 1) * sum(seconds)


@given(DEVICES, st.integers(0, 12), SECONDS)
@settings(max_examples=60, deadline=None)
def test_zb_h1_saves_a_weight_pass_a_stage(devices, more, seconds):
    """(p - 1)(F + B - W), table 2 of 2401.10241, where F >= W."""
    forward_s, input_s, weight_s = sorted(seconds, reverse=True)
    schedule, micro_batches = make("zb_h1"), devices + more
    for order in ((forward_s, input_s, weight_s), (input_s, forward_s, weight_s)):
        found = step(schedule, devices, micro_batches, times_of(schedule, devices, order))
        assert max(found.bubbles_s) == (devices - 1) * (forward_s + input_s - weight_s)
        assert found.makespan_s == micro_batches * sum(order) + max(found.bubbles_s)


@given(DEVICES, st.integers(0, 12), SECONDS)
@settings(max_examples=60, deadline=None)
def test_zb_h2_saves_two_and_so_has_no_bubble_where_all_passes_are_equal(devices, more, seconds):
    """(p - 1)(F + B - 2W), table 2 of 2401.10241, of each device's own span."""
    forward_s, input_s, weight_s = sorted(seconds, reverse=True)
    schedule, micro_batches = make("zb_h2"), 2 * devices - 1 + more
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, (forward_s, input_s, weight_s)))
    assert max(found.bubbles_s) == (devices - 1) * (forward_s + input_s - 2 * weight_s)
    even = step(schedule, devices, micro_batches, times_of(schedule, devices, (input_s,) * 3))
    assert even.bubbles_s == [0] * devices
    assert even.makespan_s == (3 * micro_batches + devices - 1) * input_s


@given(st.sampled_from(["zb_2p", "zb_v"]), DEVICES, st.integers(0, 12), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_zb_2p_and_zb_v_have_no_bubble_where_all_passes_are_equal(name, devices, more, second):
    schedule, micro_batches = make(name), 2 * devices + more
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, (second,) * 3))
    assert found.bubbles_s == [0] * devices
    assert found.makespan_s == (3 * schedule.chunks * micro_batches + devices - 1) * second


@given(st.integers(1, 6), st.integers(1, 16), SECONDS, st.sampled_from([0, 1]), st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_automatic_schedules_are_never_worse_than_those_by_hand(devices, micro_batches, seconds, send_s, kept):
    times = times_of(make("zb_1p"), devices, seconds, send_s=send_s, weight_input_bytes=kept)
    one, two, by_hand = (
        max(step(make(name), devices, micro_batches, times).bubbles_s) for name in ("zb_1p", "zb_2p", "zb_h1")
    )
    assert one <= by_hand
    assert two <= by_hand
    assert two <= max(step(make("zb_h2"), devices, micro_batches, times).bubbles_s)


@pytest.mark.parametrize(
    ("name", "rate"), [("1f1b", 0.2431), ("zb_h1", 0.1585), ("zb_h2", 0.1083), ("zb_1p", 0.1585), ("zb_2p", 0.0433)]
)
def test_bubble_rates_of_a_profiled_model_are_those_of_the_paper(name, rate):
    """2401.10241: bubble rates of the 1.5B model on 8 GPUs with 24 micro-batches, from its profiled milliseconds; all
    as remembered of the paper.

    Activations are the paper's table 1 with 24 heads, sequences of 1024 and hidden size 2304: 34 + 5 a s / h before the
    backward of the inputs, 32 after it.
    """
    devices, micro_batches = 8, 24
    times = SlotTimes.uniform(
        devices,
        forward_s=18.522,
        backward_input_s=18.086,
        backward_weight_s=9.337,
        send_s=0.601,
        activation_bytes=34 + 5 * 24 * 1024 / 2304,
        weight_input_bytes=32,
    )
    busy_s = micro_batches * (18.522 + 18.086 + 9.337)
    bubble_s = max(step(make(name), devices, micro_batches, times).bubbles_s)
    assert bubble_s / (busy_s + bubble_s) == pytest.approx(rate, abs=2e-4)


@given(st.integers(2, 12), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_v_min_and_v_half_pay_less_than_1f1b(devices, more):
    """About two thirds and half of 1F1B's bubble, 6(p - 1) ticks, where all six passes of a device take a tick."""
    micro_batches = devices + more
    smallest = max(step(make("v_min"), devices, micro_batches).bubbles_s)
    assert smallest == 4 * devices - 5
    assert max(step(make("v_half"), devices, micro_batches).bubbles_s) <= 3 * (devices - 1) + 1


@given(st.integers(1, 6), st.integers(0, 10), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_dualpipe_has_its_reports_bubble(half, more, forward_s, weight_s):
    """(PP/2 - 1)(F&B + B - 3W), table 2 of 2412.19437: pairs take as long as their parts, B's inputs as long as F."""
    forward_s = max(forward_s, weight_s)
    schedule, devices = make("dualpipe"), 2 * half
    times = times_of(schedule, devices, (forward_s, forward_s, weight_s))
    found = step(schedule, devices, 2 * devices + 2 * more, times)
    backward_s = forward_s + weight_s
    pair_s = forward_s + backward_s
    assert max(found.bubbles_s) == (half - 1) * (pair_s + backward_s - 3 * weight_s)


@given(DEVICES, st.integers(1, 16), SECONDS, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_1f1b_is_never_faster_than_its_longest_chain(devices, micro_batches, seconds, send_s):
    """Sends lie on the way of the first micro-batch down and of the last one up."""
    schedule = make("1f1b")
    found = step(schedule, devices, micro_batches, times_of(schedule, devices, seconds, send_s=send_s))
    assert found.makespan_s >= (micro_batches + devices - 1) * sum(seconds) + 2 * (devices - 1) * send_s
