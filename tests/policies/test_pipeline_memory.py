"""The activations that a device holds at once are those of the closed forms."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make, most_held, step, times_of

from policies.parallelism.schedules import SlotTimes

DEVICES = st.integers(1, 8)


@given(DEVICES, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_gpipe_holds_every_micro_batch(devices, micro_batches):
    assert step(make("gpipe"), devices, micro_batches).peaks_bytes == [micro_batches] * devices


@given(DEVICES, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_1f1b_holds_as_many_as_there_are_stages_from_here_on(devices, micro_batches):
    expected = [min(devices - device, micro_batches) for device in range(devices)]
    assert step(make("1f1b"), devices, micro_batches).peaks_bytes == expected


@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_interleaving_costs_a_share_more_on_the_first_device(devices, groups, chunks):
    """p (1 + (p - 1) / (p v)) of a device's share: Korthikanti et al., 2205.05198, section 4.2.3."""
    found = most_held(make("interleaved_1f1b", chunks=chunks).programs(devices, devices * groups))
    assert found[0] / chunks == pytest.approx(devices * (1 + (devices - 1) / (devices * chunks)), rel=1e-14)
    assert found == [(chunks - 1) * devices + 2 * (devices - device) - 1 for device in range(devices)]


@given(DEVICES, st.integers(0, 10), st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_zb_h1_and_h2_hold_one_and_two_pipelines(devices, more, kept):
    """Table 2 of 2401.10241: p and 2p - 1 activations on the first device, elsewhere some of them past B."""
    micro_batches = 2 * devices + more
    h1 = most_held(make("zb_h1").programs(devices, micro_batches), kept)
    h2 = most_held(make("zb_h2").programs(devices, micro_batches), kept)
    assert h1 == [devices - device + device * kept for device in range(devices)]
    assert h2 == [2 * (devices - device) - 1 + 2 * device * kept for device in range(devices)]


@given(
    st.sampled_from([("zb_1p", 1), ("zb_2p", 2)]),
    st.integers(1, 6),
    st.integers(1, 16),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.tuples(*[st.integers(1, 9)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_automatic_schedules_keep_within_their_memory(named, devices, micro_batches, kept, seconds):
    name, factor = named
    schedule = make(name)
    times = times_of(schedule, devices, seconds, weight_input_bytes=kept)
    assert max(most_held(schedule.programs(devices, micro_batches, times), kept)) <= factor * devices


def test_automatic_schedules_count_what_every_stage_holds():
    times = SlotTimes(
        forward_s=(1.0,) * 4,
        backward_input_s=(1.0,) * 4,
        backward_weight_s=(1.0,) * 4,
        activation_bytes=(1.0, 2.0, 2.0, 1.0),  # the limit: four of the largest
        weight_input_bytes=(1.0, 2.0, 2.0, 1.0),
    )
    held = most_held(make("zb_1p").programs(4, 16, times))
    assert all(count * size <= 8.0 for count, size in zip(held, times.activation_bytes, strict=True))


@given(st.integers(1, 16), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_v_schedules_hold_a_third_a_half_and_all_of_1f1bs_activations(devices, more):
    """2405.15362; two chunks a device, so a pass through one is half a unit of 1F1B's p."""
    micro_batches = 2 * devices + more
    for name, limit in (("v_min", ceil((devices + 2) / 3)), ("v_half", (devices + 2) // 2), ("zb_v", devices)):
        held = max(most_held(make(name).programs(devices, micro_batches)))
        assert held / 2 == limit
        assert max(most_held(make(name).programs(devices, 1))) <= held


@given(st.integers(1, 6), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_dualpipe_holds_one_more_than_there_are_devices(half, more):
    """PP + 1, table 2 of 2412.19437."""
    devices = 2 * half
    assert set(most_held(make("dualpipe").programs(devices, 2 * devices + 2 * more))) == {devices + 1}
