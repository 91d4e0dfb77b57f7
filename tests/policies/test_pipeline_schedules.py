"""Every schedule runs every micro-batch through every stage once, where it says, and comes to its end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import (
    BACKWARD,
    FORWARD,
    SCHEDULES,
    Programs,
    Slot,
    SlotTimes,
    flaws,
)

CHUNKED = ("interleaved_1f1b", "gis", "breadth_first", "layered")
VOCABULARY = ("vocab_1", "vocab_2", "interlaced_vocab")


@st.composite
def cases(draw: st.DrawFn, most_devices: int = 8) -> tuple[str, dict[str, int], int, int]:
    """A schedule's name and keys, with devices and micro-batches that it accepts."""
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    devices, micro_batches = draw(st.integers(1, most_devices)), draw(st.integers(1, 20))
    keys = {"chunks": draw(st.integers(2, 4))} if name in CHUNKED else {}
    if name == "none":
        devices = 1
    elif name == "interleaved_1f1b":
        devices = max(2, devices)
        micro_batches = devices * draw(st.integers(1, 4))
    elif name == "gis" or name in VOCABULARY:
        devices = max(2, devices)
    elif name == "dualpipe":
        devices = 2 * draw(st.integers(1, most_devices // 2))
        micro_batches = 2 * devices + 2 * draw(st.integers(0, 8))
    return name, keys, devices, micro_batches


@given(cases())
@settings(max_examples=60, deadline=None)
def test_every_pass_is_there_once_on_its_device_and_nobody_waits_for_ever(case):
    name, keys, devices, micro_batches = case
    schedule = make(name, **keys)
    schedule.check(devices, micro_batches, "training")
    programs = schedule.programs(devices, micro_batches)
    assert len(programs) == devices
    assert flaws(programs, schedule.stages(devices), micro_batches, schedule.meetings(programs)) == []
    for device, row in enumerate(programs):
        assert {slot.stage for slot in row} == set(schedule.stages_on(device, devices))
        for slot in row:
            assert schedule.device_of(slot.stage, devices, slot.micro_batch) == device
    splits = any(slot.work not in {FORWARD, BACKWARD} for row in programs for slot in row)
    assert splits <= schedule.splits_backward


@given(st.sampled_from(["zb_1p", "zb_2p"]), st.integers(1, 6), st.integers(1, 12), st.data())
@settings(max_examples=150, deadline=None)
def test_automatic_schedules_come_to_their_end_whatever_the_times(name, devices, micro_batches, data):
    def column(low: float = 0.0) -> tuple[float, ...]:
        return tuple(data.draw(st.lists(st.floats(low, 10.0), min_size=devices, max_size=devices)))

    held = column(0.1)
    times = SlotTimes(
        forward_s=column(),
        backward_input_s=column(),
        backward_weight_s=column(),
        activation_bytes=held,
        weight_input_bytes=tuple(size * data.draw(st.floats(0, 1)) for size in held),
        send_s=data.draw(st.sampled_from([0.0, 0.5, 5.0])),
    )
    programs = make(name).programs(devices, micro_batches, times)
    assert flaws(programs, devices, micro_batches) == []


def test_the_same_question_has_the_same_answer():
    for name in SCHEDULES:
        devices = 1 if name == "none" else 4
        assert make(name).programs(devices, 8) == make(name).programs(devices, 8)


@pytest.mark.parametrize(
    ("name", "devices", "micro_batches", "says"),
    [
        ("none", 2, 8, "for one stage, not 2"),
        ("interleaved_1f1b", 4, 6, "multiples of the 4 pipeline stages, not 6"),
        ("interleaved_1f1b", 1, 6, "at least 2 stages, not 1"),
        ("dualpipe", 3, 8, "even number of pipeline stages, not 3"),
        ("dualpipe", 4, 9, "even number of micro-batches, at least 8 for 4 pipeline stages, not 9"),
        ("dualpipe", 4, 6, "not 6"),
        ("1f1b", 4, 0, "got 4 and 0"),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(name, devices, micro_batches, says):
    with pytest.raises(ImpossibleError, match=says) as refusal:
        make(name).check(devices, micro_batches, "training.schedule")
    assert str(refusal.value).startswith("training.schedule: ")


def text(programs: Programs, device: int) -> str:
    row = programs[device]
    return " ".join(f"{'F' if slot.work == FORWARD else 'B'}{slot.micro_batch}.{slot.stage}" for slot in row)


def test_gpipe_runs_backwards_in_reverse():
    assert text(make("gpipe").programs(2, 3), 0) == "F0.0 F1.0 F2.0 B2.0 B1.0 B0.0"


def test_one_forward_one_backward_warms_up_by_the_distance_from_the_end():
    programs = make("1f1b").programs(3, 4)
    assert text(programs, 0) == "F0.0 F1.0 F2.0 B0.0 F3.0 B1.0 B2.0 B3.0"
    assert text(programs, 2) == "F0.2 B0.2 F1.2 B1.2 F2.2 B2.2 F3.2 B3.2"


def test_without_a_pipeline_micro_batches_take_turns():
    assert text(make("none").programs(1, 2), 0) == "F0.0 B0.0 F1.0 B1.0"


def test_interleaving_goes_depth_first_in_groups_of_as_many_micro_batches_as_devices():
    programs = make("interleaved_1f1b", chunks=2).programs(2, 4)
    assert text(programs, 0) == ("F0.0 F1.0 F0.2 F1.2 F2.0 B0.2 F3.0 B1.2 F2.2 B0.0 F3.2 B1.0 B2.2 B3.2 B2.0 B3.0")
    assert text(programs, 1) == ("F0.1 F1.1 F0.3 B0.3 F1.3 B1.3 F2.1 B0.1 F3.1 B1.1 F2.3 B2.3 F3.3 B3.3 B2.1 B3.1")


def test_interleaving_with_one_group_runs_every_forward_first_as_megatron_does():
    for row in make("interleaved_1f1b", chunks=3).programs(4, 4):
        assert [slot.work for slot in row] == [FORWARD] * 12 + [BACKWARD] * 12


@pytest.mark.parametrize("name", ["breadth_first", "layered"])
def test_breadth_first_takes_every_micro_batch_through_a_chunk_before_the_next(name):
    programs = make(name, chunks=2).programs(2, 3)
    assert text(programs, 1) == "F0.1 F1.1 F2.1 F0.3 F1.3 F2.3 B0.3 B1.3 B2.3 B0.1 B1.1 B2.1"


def test_a_v_puts_the_first_and_the_last_stage_on_one_device():
    schedule = make("zb_v")
    assert [schedule.stages_on(device, 3) for device in range(3)] == [(0, 5), (1, 4), (2, 3)]


def test_dualpipe_holds_every_stage_twice():
    schedule = make("dualpipe")
    assert [schedule.stages_on(device, 4) for device in range(4)] == [(0, 3), (1, 2), (1, 2), (0, 3)]


def test_a_pass_left_out_or_done_twice_is_told():
    ((first, *rest), second) = make("1f1b").programs(2, 2)
    assert flaws((tuple(rest), second), 2, 2) == ["micro-batch 0 goes forward through stage 0 0 times"]
    (found,) = flaws(((first, *rest), (*second, Slot(BACKWARD, 1, 1))), 2, 2)
    assert found.startswith("micro-batch 1 goes backward through stage 1 2 times whole")
    (found,) = flaws(((first, *rest), (*second, Slot(FORWARD, 7, 1))), 2, 2)
    assert found.endswith("is of no micro-batch or stage")


def test_devices_that_wait_for_one_another_are_told():
    first, second = make("gpipe").programs(2, 2)
    swapped = (second[2], *second[:2], second[3])  # a backward before its own forward
    assert flaws((first, swapped), 2, 2) == [
        "device 0 never comes to Slot(work='backward', micro_batch=1, stage=0)",
        "device 1 never comes to Slot(work='backward', micro_batch=1, stage=1)",
    ]
