"""Sends between stages: over NVLink inside a server, over cards between servers, as ranks lie."""

from dataclasses import replace

import pytest

from policies.parallelism.schedules import SCHEDULES, SlotTimes, pipeline_graph
from sim.graph import execute, max_plus
from sim.training.deployment import deploy_training
from sim.training.pipeline_hops import PipelineHops
from sim.training.simulate import simulate_training
from sim.training_scenario import TrainingScenario


def scenario(nodes: int, **training: object) -> TrainingScenario:
    base = {"global_batch_size": 16, "seq_length": 1024, "sharding": "none", "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "gpt3-1.3b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": nodes},
            "training": base | training,
        }
    )


def test_a_pipeline_of_single_gpus_leaves_the_server_after_every_eighth():
    hops = PipelineHops(deploy_training(scenario(2, pipeline_parallel_size=12, data_parallel_size=1)))
    seconds = hops.to_stages_s()
    assert seconds[0] == 0
    assert seconds[8] > 1.5 * seconds[1]
    assert seconds == tuple(seconds[8] if stage == 8 else 0.0 if not stage else seconds[1] for stage in range(12))
    assert seconds[1] == hops.deployment.send_s


def test_chunks_come_back_to_the_first_server_over_cards():
    plan = scenario(2, pipeline_parallel_size=12, schedule={"name": "interleaved_1f1b", "chunks": 2},
                    global_batch_size=24, data_parallel_size=1)  # fmt: skip
    seconds = PipelineHops(deploy_training(plan)).to_stages_s()
    slow = max(seconds)
    assert [stage for stage, one in enumerate(seconds) if one == slow] == [8, 12, 20]


def test_stages_of_whole_servers_have_one_kind_of_hop():
    hops = PipelineHops(deploy_training(scenario(4, tensor_parallel_size=8, pipeline_parallel_size=4)))
    assert set(hops.to_stages_s()[1:]) == {hops.deployment.send_s}
    assert hops.fabric(0, 3) is hops.deployment.pipeline_fabric


def test_two_ranks_a_stage_leave_after_every_fourth():
    hops = PipelineHops(
        deploy_training(scenario(2, tensor_parallel_size=2, pipeline_parallel_size=6, data_parallel_size=1))
    )
    assert [hops.leaves(stage, stage + 1) for stage in range(5)] == [False, False, False, True, False]
    assert not hops.leaves(0, 3)
    assert hops.leaves(0, 5)


def test_every_hop_takes_its_own_time_in_a_step_on_either_clock():
    plan = scenario(2, pipeline_parallel_size=12, data_parallel_size=1)
    run, clocked = simulate_training(plan), simulate_training(plan, exact=True)
    assert run.times.start_s == clocked.times.start_s
    seconds = PipelineHops(run.deployment).to_stages_s()
    sends = [task for task, kind in enumerate(run.graph.kind) if kind == "send forward"]
    assert len(sends) == 11 * 16
    for task in sends:
        stage = int(run.graph.name[task].rpartition(" ")[2])
        assert run.graph.duration_s[task] == seconds[stage + 1]


def test_a_schedule_that_plans_knows_of_slow_hops():
    schedule = SCHEDULES["zb_1p"]()
    even = SlotTimes.uniform(4, send_s=0.25)
    slow = replace(even, sends_s=(0.0, 0.25, 2.0, 0.25))
    graphs = [pipeline_graph(schedule, 4, 12, times) for times in (even, slow)]
    sends = {seconds for seconds, kind in zip(graphs[1].duration_s, graphs[1].kind, strict=True) if "send" in kind}
    assert sends == {0.25, 2.0}
    first, second = (max_plus(graph).makespan_s for graph in graphs)
    assert first < second == execute(graphs[1]).makespan_s
    blind = schedule.programs(4, 12, even)
    assert schedule.programs(4, 12, slow) != blind


@pytest.mark.parametrize(("name", "exchanged"), [("1f1b", True), ("zb_v", False)])
def test_a_shared_table_is_exchanged_only_between_devices(name, exchanged):
    run = simulate_training(scenario(1, pipeline_parallel_size=4, schedule=name, data_parallel_size=1))
    assert run.deployment.architecture.tie_word_embeddings
    assert ("tied embedding" in run.graph.kind) is exchanged
