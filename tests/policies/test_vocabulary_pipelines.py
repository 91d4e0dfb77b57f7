"""A vocabulary divided over a pipeline: who waits for whom, how many activations live, and how little it costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_steps import make, step

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import BACKWARD, FORWARD, SCHEDULES, SlotTimes, flaws, pipeline_graph
from policies.parallelism.schedules.meeting import AGREE, BROADCAST, REDUCE
from sim.graph import execute, max_plus

NAMES = ("vocab_1", "vocab_2", "interlaced_vocab")


def times_of(devices: int, share_s: float = 0.25, meetings_s: float = 0.0, backward_s: float = 2.0) -> SlotTimes:
    """Layers of one and `backward_s` seconds, then every device's part of the vocabulary; its activations weigh nil."""
    layers, parts = (1.0,) * devices, (share_s,) * devices
    return SlotTimes(
        forward_s=layers + parts,
        backward_input_s=tuple(one * backward_s / 2 for one in layers) + parts,
        backward_weight_s=tuple(one * backward_s / 2 for one in layers) + (0.0,) * devices,
        activation_bytes=layers + (0.0,) * devices,
        weight_input_bytes=layers + (0.0,) * devices,
        meetings_s=tuple((kind, meetings_s) for kind in (BROADCAST, AGREE, REDUCE)),
    )


@given(st.sampled_from(NAMES), st.integers(2, 8), st.integers(1, 20), st.floats(0, 3), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_every_device_computes_its_part_of_every_micro_batch_and_nobody_waits_for_ever(
    name, devices, micro_batches, share_s, meetings_s
):
    schedule, times = make(name), times_of(devices, share_s, meetings_s)
    programs = schedule.programs(devices, micro_batches, times)
    assert flaws(programs, devices, micro_batches, schedule.meetings(programs)) == []
    for device, row in enumerate(programs):
        assert {slot.stage for slot in row} == set(schedule.stages_on(device, devices))


@given(st.sampled_from(NAMES), st.integers(2, 6), st.integers(1, 12), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_both_clocks_agree_and_no_backward_comes_before_all_scores(name, devices, micro_batches, share_s, meetings_s):
    schedule, times = make(name), times_of(devices, share_s, meetings_s)
    graph = pipeline_graph(schedule, devices, micro_batches, times)
    found = max_plus(graph)
    assert found.start_s == execute(graph).start_s
    at = {graph.name[task]: task for task in range(len(graph))}
    for micro_batch in range(micro_batches):
        first_s = found.start_s[at[f"backward {micro_batch} stage {devices - 1}"]]
        scores = [at[f"forward {micro_batch} stage {devices + device}"] for device in range(devices)]
        gradients = [at[f"backward {micro_batch} stage {devices + device}"] for device in range(devices)]
        last_s = max(found.end_s[task] for task in scores)
        assert min(found.start_s[task] for task in gradients) >= last_s + meetings_s
        assert first_s >= last_s + meetings_s
        if name != "vocab_2":
            assert first_s >= max(found.end_s[task] for task in gradients) + meetings_s
    work_s = micro_batches * (3 + 2 * share_s)
    assert found.makespan_s >= work_s


@pytest.mark.parametrize("devices", [3, 4, 8, 16])
def test_activations_alive_are_those_of_the_paper(devices):
    """2411.05288: p + 2 with two meetings, p + 1 with one; the interlaced pipeline holds half as many again as 1F1B."""
    micro_batches, times = 3 * devices, times_of(devices, share_s=0.1)
    peaks = {name: step(make(name), devices, micro_batches, times).peaks_bytes for name in NAMES}
    assert peaks["vocab_1"] == [devices - device + 2 for device in range(devices)]
    assert peaks["vocab_2"] == [devices - device + 1 for device in range(devices)]
    assert peaks["interlaced_vocab"][0] == (3 * devices) // 2
    for name in NAMES:
        most = [make(name).on_the_way(device, devices) for device in range(devices)]
        assert all(peak <= limit for peak, limit in zip(peaks[name], most, strict=True))


@pytest.mark.parametrize("name", ["vocab_1", "vocab_2"])
@pytest.mark.parametrize(("devices", "micro_batches"), [(4, 16), (8, 64), (16, 96)])
@pytest.mark.parametrize("backward_s", [1.0, 2.0, 2.2])
def test_a_divided_vocabulary_hides_in_the_pipeline(name, devices, micro_batches, backward_s):
    """Beyond what each device computes a step takes 1F1B's bubble, and at most two turns more for the meetings."""
    times = times_of(devices, share_s=0.1, meetings_s=0.02, backward_s=backward_s)
    turn_s = 1 + backward_s + 0.2
    found = step(make(name), devices, micro_batches, times)
    assert found.makespan_s <= (micro_batches + devices + 1) * turn_s
    assert found.makespan_s >= micro_batches * turn_s


def test_standing_still_costs_what_is_exchanged():
    devices, micro_batches = 8, 64
    spans = [
        step(make("interlaced_vocab"), devices, micro_batches, times_of(devices, 0.1, meetings_s)).makespan_s
        for meetings_s in (0.0, 0.25)
    ]
    assert spans[1] - spans[0] >= micro_batches * 2 * 0.25


def test_slots_of_the_vocabulary_wait_for_meetings_alone():
    schedule = make("vocab_1")
    programs = schedule.programs(2, 1, times_of(2))
    assert [slot.work for slot in programs[1]] == [FORWARD, FORWARD, BACKWARD, BACKWARD]
    kinds = [meeting.kind for meeting in schedule.meetings(programs)]
    assert kinds == [BROADCAST, AGREE, REDUCE]
    assert [meeting.kind for meeting in make("vocab_2").meetings(programs)] == [BROADCAST, AGREE]


def test_one_stage_cannot_divide_a_vocabulary():
    for name in NAMES:
        with pytest.raises(ImpossibleError, match="at least 2 pipeline stages, not 1"):
            SCHEDULES[name]().check(1, 4, "training.schedule")
