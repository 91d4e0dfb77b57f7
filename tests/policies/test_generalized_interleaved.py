"""GIS: fewer activations than interleaved 1F1B for the same bubble, and fewer still in smaller groups."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make, step, times_of

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import BACKWARD_WEIGHT, FORWARD, flaws

SHAPES = [(4, 2, 16), (8, 5, 32), (16, 3, 64)]  # stages, chunks, micro-batches


def alive(row) -> int:
    """Most passes through a chunk begun and not finished, weights' gradients included."""
    held = most = 0
    for slot in row:
        held += (slot.work == FORWARD) - (slot.work == BACKWARD_WEIGHT)
        most = max(most, held)
    return most


@pytest.mark.parametrize(("devices", "chunks", "micro_batches"), SHAPES)
def test_whole_groups_hold_a_pass_more_than_they_have_and_idle_no_longer_than_interleaved_1f1b(
    devices, chunks, micro_batches
):
    """v p + 1 passes on the first device, where interleaved 1F1B has v p + p - 1 (2503.01328)."""
    schedule, usual = make("gis", chunks=chunks), make("interleaved_1f1b", chunks=chunks)
    times = times_of(schedule, devices, (1, 1, 1))
    rows = schedule.programs(devices, micro_batches, times)
    assert [alive(row) for row in rows] == [
        max(chunks * devices + 1 - device, (chunks - 1) * devices + 1) for device in range(devices)
    ]
    found, other = (step(one, devices, micro_batches, times) for one in (schedule, usual))
    assert found.makespan_s <= other.makespan_s
    assert found.peaks_bytes[0] == other.peaks_bytes[0] - (devices - 2)
    assert found.makespan_s - 3 * chunks * micro_batches == 2 * (devices - 1) - 1  # F and B: W fills its gaps


@pytest.mark.parametrize(("devices", "chunks", "micro_batches"), SHAPES)
def test_groups_of_half_the_stages_hold_half_as_much_and_cost_a_few_percent(devices, chunks, micro_batches):
    schedule = make("gis", chunks=chunks, group_size=devices // 2)
    times = times_of(schedule, devices, (1, 1.25, 0.9))
    rows = schedule.programs(devices, micro_batches, times)
    most = chunks * devices // 2 + devices // 2 + 1
    assert all(alive(row) <= most - device for device, row in enumerate(rows))
    found = step(schedule, devices, micro_batches, times)
    assert found.makespan_s <= 1.12 * chunks * micro_batches * 3.15


@given(st.integers(2, 6), st.integers(2, 4), st.integers(1, 14), st.tuples(*[st.integers(1, 9)] * 3), st.data())
@settings(max_examples=60, deadline=None)
def test_any_group_runs_to_its_end_whatever_the_times(devices, chunks, micro_batches, seconds, data):
    group = data.draw(st.integers(-(-devices // 2), devices))
    schedule = make("gis", chunks=chunks, group_size=group)
    schedule.check(devices, micro_batches, "training.schedule")
    times = times_of(schedule, devices, seconds, send_s=data.draw(st.sampled_from([0, 1, 5])))
    rows = schedule.programs(devices, micro_batches, times)
    assert flaws(rows, devices * chunks, micro_batches) == []
    assert all(alive(row) <= schedule.on_the_way(device, devices) for device, row in enumerate(rows))


@pytest.mark.parametrize(
    ("group", "devices", "says"),
    [(1, 4, "between half of the 4 pipeline stages"), (5, 4, "group_size = 5"), (None, 1, "at least 2")],
)
def test_groups_that_do_not_come_back_in_time_are_refused(group, devices, says):
    with pytest.raises(ImpossibleError, match=says):
        make("gis", chunks=2, group_size=group).check(devices, 8, "training.schedule")
