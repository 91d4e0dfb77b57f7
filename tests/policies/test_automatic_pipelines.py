"""ZB-1p and ZB-2p on stages of unequal length: near the busiest stage's own work, and never behind those by hand."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make, most_held, step, times_of

from policies.parallelism.schedules import BACKWARD_INPUT, FORWARD, SlotTimes, flaws
from policies.parallelism.schedules.planning import Plan
from policies.parallelism.schedules.zero_bubble import SplitOneForwardOneBackward

KEPT = 0.43  # of an activation, until the weights' gradients: 14.6B of 2401.10241


def uneven(devices: int, send_s: float = 0.1, weight_s: float = 1.5) -> SlotTimes:
    """The first stage has two layers and not three, the last two and the head: the setting of 2401.10241, table 3."""
    layers = [2.0, *[3.0] * (devices - 2), 2.9]
    return SlotTimes(
        forward_s=tuple(layers),
        backward_input_s=tuple(1.05 * one for one in layers),
        backward_weight_s=tuple(weight_s * one for one in layers),
        activation_bytes=tuple(layers),
        weight_input_bytes=tuple(KEPT * one for one in layers),
        send_s=send_s,
    )


def span_s(name: str, devices: int, micro_batches: int, times: SlotTimes) -> float:
    """The longest of a device, from its first start to its last end."""
    found = step(make(name), devices, micro_batches, times)
    return max(a + b for a, b in zip(found.bubbles_s, work_s(micro_batches, times), strict=True))


def work_s(micro_batches: int, times: SlotTimes) -> list[float]:
    columns = zip(times.forward_s, times.backward_input_s, times.backward_weight_s, strict=True)
    return [micro_batches * sum(column) for column in columns]


@pytest.mark.parametrize("weight_s", [0.6, 1.0, 1.5])
@pytest.mark.parametrize(("devices", "micro_batches"), [(8, 24), (16, 48), (32, 96)])
def test_twice_the_memory_leaves_only_what_the_busiest_stage_computes(devices, micro_batches, weight_s):
    times = uneven(devices, weight_s=weight_s)
    assert span_s("zb_2p", devices, micro_batches, times) <= 1.04 * max(work_s(micro_batches, times))


@pytest.mark.parametrize("name", ["zb_1p", "zb_2p"])
def test_more_micro_batches_never_cost_more_each(name):
    devices = 16
    times = uneven(devices)
    each = [span_s(name, devices, m, times) / m for m in (48, 64, 96, 128, 192)]
    assert all(later <= before * (1 + 1e-12) for before, later in pairwise(each))


COLUMN = st.integers(1, 9)


@given(st.integers(1, 6), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_no_schedule_by_hand_that_fits_is_faster_whatever_the_stages(devices, micro_batches, data):
    def column() -> tuple[float, ...]:
        return tuple(data.draw(st.lists(COLUMN, min_size=devices, max_size=devices)))

    times = SlotTimes(
        forward_s=column(),
        backward_input_s=column(),
        backward_weight_s=column(),
        activation_bytes=(1.0,) * devices,
        weight_input_bytes=(data.draw(st.sampled_from([0.25, 0.5, 1.0])),) * devices,
        send_s=data.draw(st.sampled_from([0, 1, 4])),
    )
    one, two, by_hand, by_two, whole = (
        span_s(name, devices, micro_batches, times) for name in ("zb_1p", "zb_2p", "zb_h1", "zb_h2", "1f1b")
    )
    assert one <= by_hand
    assert one <= whole
    assert two <= min(by_hand, by_two, whole)
    assert two >= max(work_s(micro_batches, times))


def test_the_limit_is_p_activations_of_the_largest_stage():
    devices, times = 8, uneven(8)
    for name, factor in (("zb_1p", 1), ("zb_2p", 2)):
        held = most_held(make(name).programs(devices, 32, times), KEPT)
        most_bytes = max(count * size for count, size in zip(held, times.activation_bytes, strict=True))
        assert (factor - 0.5) * devices * 3.0 < most_bytes <= factor * devices * 3.0 * (1 + 1e-9)


def test_a_long_step_is_planned_as_well_as_with_all_ways_tried_whole():
    devices, micro_batches, times = 4, 80, uneven(4)
    schedule = make("zb_1p")
    spans = []
    for candidate in schedule.candidates(devices, times):
        plan = Plan(schedule, devices, micro_batches, times)
        plan.run(candidate(plan))
        assert flaws(plan.programs(), devices, micro_batches) == []
        spans.append(max(plan.span_s))
    assert span_s("zb_1p", devices, micro_batches, times) == pytest.approx(min(spans), rel=1e-12)


def test_split_1f1b_is_1f1b_with_earlier_sends():
    devices, micro_batches = 5, 12
    programs = make("1f1b").programs(devices, micro_batches)
    split = SplitOneForwardOneBackward().programs(devices, micro_batches)
    for row, halves in zip(programs, split, strict=True):
        assert [slot for slot in halves if slot.work == FORWARD] == [slot for slot in row if slot.work == FORWARD]
        for first, second in pairwise(halves):
            if first.work == BACKWARD_INPUT:
                assert second[1:] == first[1:]
    times = times_of(make("1f1b"), devices, (2, 3, 1), send_s=1)
    assert (
        step(SplitOneForwardOneBackward(), devices, micro_batches, times).makespan_s
        <= step(make("1f1b"), devices, micro_batches, times).makespan_s
    )
