"""The graph of a schedule: a task a slot in program order, sends where devices change, memory given back."""

import pytest
from hypothesis import given, settings
from pipeline_steps import make, times_of
from test_pipeline_schedules import cases

from policies.parallelism.schedules import BACKWARD, FORWARD, Slot, dependencies, join, owners, pipeline_graph
from sim.graph import execute, max_plus


def test_a_forward_needs_the_stage_before_and_a_backward_its_own_forward_and_the_stage_after():
    programs = make("1f1b").programs(2, 1)
    assert programs == ((Slot(FORWARD, 0, 0), Slot(BACKWARD, 0, 0)), (Slot(FORWARD, 0, 1), Slot(BACKWARD, 0, 1)))
    assert dependencies(programs) == [[], [0, 3], [0], [2]]
    assert owners(programs) == [0, 0, 1, 1]


def test_weights_need_the_backward_of_the_inputs_and_nobody_needs_them():
    programs = make("zb_h1").programs(2, 1)
    assert dependencies(programs) == [[], [0, 4], [1], [0], [3], [4]]


def test_joined_tasks_start_and_end_together():
    after = [[], [0], [5], [9], [2], [3, 1]]
    join(after, [2])
    assert after == [[], [0], [5, 9], [9], [3], [3, 1]]
    after = [[], [0], []]
    join(after, [0])  # a backward right after the forward that it needs: the need is met by the order
    assert after == [[], [0], []]


@given(cases(most_devices=4))
@settings(max_examples=60, deadline=None)
def test_graphs_keep_the_books(case):
    name, keys, devices, micro_batches = case
    schedule = make(name, **keys)
    times = times_of(schedule, devices, (2, 3, 1), send_s=1, weight_input_bytes=0.5)
    graph = pipeline_graph(schedule, devices, micro_batches, times)
    slots = sum(len(row) for row in schedule.programs(devices, micro_batches, times))
    stages = schedule.stages(devices)
    crossings = sum(
        schedule.device_of(stage, devices, k) != schedule.device_of(stage + 1, devices, k)
        for stage in range(stages - 1)
        for k in range(micro_batches)
    )
    meetings = schedule.meetings(schedule.programs(devices, micro_batches, times))
    assert len(graph) == slots + 2 * crossings + len(meetings)
    for pool in range(devices):
        assert sum(change.change_bytes for change in graph.memory if change.pool == pool) == 0
    found = max_plus(graph)
    clocked = execute(graph)
    assert found.start_s == clocked.start_s
    assert found.makespan_s == clocked.makespan_s
    per_stage_s = micro_batches * (2 + 3 + 1) * (1 if name == "dualpipe" else schedule.chunks)
    assert found.makespan_s >= per_stage_s
    chain_s = stages * (2 + 3) + 1 if schedule.splits_backward else stages * (2 + 3 + 1)
    assert found.makespan_s >= chain_s + 2 * crossings / micro_batches


def test_a_send_runs_on_a_stream_of_its_own_device_and_direction():
    schedule = make("1f1b")
    graph = pipeline_graph(schedule, 2, 1, times_of(schedule, 2, (1, 1, 1), send_s=4))
    sends = [task for task in range(len(graph)) if graph.kind[task].startswith("send")]
    assert [graph.name[task] for task in sends] == ["send forward 0 of stage 0", "send backward 0 of stage 1"]
    streams = [graph.streams[graph.stream[task]] for task in sends]
    assert [(stream.device, stream.name) for stream in streams] == [(0, "send forward"), (1, "send backward")]
    assert max_plus(graph).makespan_s == 1 + 4 + 1 + 2 + 4 + 2


def test_one_send_delays_one_way_and_device_works_on_meanwhile():
    schedule = make("gpipe")
    graph = pipeline_graph(schedule, 2, 2, times_of(schedule, 2, (1, 1, 1), send_s=1))
    found = max_plus(graph)
    assert found.start_s[:2] == [0, 1]
    assert found.start_s[4:6] == [2, 3]


def test_a_budget_of_memory_is_every_devices():
    graph = pipeline_graph(make("1f1b"), 3, 4, budget_bytes=2.0)
    assert [pool.budget_bytes for pool in graph.pools] == [2.0] * 3


def test_a_v_sends_nothing_at_its_turn():
    schedule = make("zb_v")
    graph = pipeline_graph(schedule, 2, 1, times_of(schedule, 2, (1, 1, 1), send_s=1))
    names = {graph.name[task] for task in range(len(graph)) if graph.kind[task] == "send forward"}
    assert names == {"send forward 0 of stage 0", "send forward 0 of stage 2"}


@pytest.mark.parametrize("devices", [2, 4, 6])
def test_pairs_of_dualpipe_are_of_two_directions_and_start_together(devices):
    schedule = make("dualpipe")
    programs = schedule.programs(devices, 2 * devices)
    joined = schedule.joined(programs)
    assert joined
    starts = max_plus(pipeline_graph(schedule, devices, 2 * devices)).start_s
    flat = [slot for row in programs for slot in row]
    for task, slot in enumerate(flat):
        if slot in joined:
            pair = flat[task + 1]
            assert (slot.work, pair.work) == (FORWARD, BACKWARD)
            assert slot.micro_batch % 2 != pair.micro_batch % 2
            assert starts[task + 1] == starts[task] + 1  # no wait between them
