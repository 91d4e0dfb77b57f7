"""Activations in host memory: what leaves, what comes back in time, what is shared, what it costs."""

import pytest

from hardware_models.errors import FleetcastError
from policies.parallelism.activation_offload import ActivationOffload, StageOffload
from sim.graph import max_plus
from sim.graph.memory import MemoryLedger
from sim.training.activation_copies import FROM_HOST, HOST_MEMORY, TO_HOST
from sim.training.simulate import TrainingRun, simulate_training
from sim.training_scenario import TrainingScenario

PCIE = 31.5e9


def scenario(fraction: float = 0.0, node: str = "dgx-a100-80gb", **training: object) -> TrainingScenario:
    plan = {
        "framework": "megatron-lm-2023", "global_batch_size": 16, "seq_length": 8192, "pipeline_parallel_size": 4,
        "data_parallel_size": 1, "sharding": "none", "check_memory": False, "layers_per_stage": [2] * 13 + [4] * 3,
        "schedule": {"name": "gis", "chunks": 4},
        "recompute": {"name": "selective", "modules": ["layernorm", "mlp_act"]},
    }  # fmt: skip
    if fraction:
        plan["activation_offload"] = {"name": "stages", "fraction": fraction}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "pipeoffload-10.5b"},
            "cluster": {"node": node, "nodes": 1},
            "training": plan | training,
        }
    )


def copies(run: TrainingRun, kind: str) -> list[int]:
    return [task for task, name in enumerate(run.graph.kind) if name == kind]


def test_a_fraction_takes_the_stages_that_wait_longest():
    assert StageOffload(fraction=0.5).stages((0, 4, 8)) == {0, 4}
    assert StageOffload(fraction=1 / 3).stages((0, 4, 8)) == {0}
    assert StageOffload().stages((3, 7)) == {3, 7}
    assert ActivationOffload().stages((0, 4, 8)) == frozenset()
    with pytest.raises(FleetcastError, match=r"training\.activation_offload\.fraction = 1\.5"):
        simulate_training(scenario(1.5))


@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize("node", ["dgx-a100-80gb", "dgx-a100-80gb-pcie-tree"])
def test_what_leaves_comes_back_before_its_backward_and_the_books_close(fraction, node):
    run = simulate_training(scenario(fraction, node))
    graph, times = run.graph, run.times
    away, back = copies(run, TO_HOST), copies(run, FROM_HOST)
    assert len(away) == len(back) > 0
    passes = {graph.name[task]: task for task in range(len(graph))}
    for task in away:
        where = graph.name[task].removeprefix(TO_HOST)
        assert times.start_s[task] >= times.end_s[passes["forward" + where]]
        assert times.start_s[passes[FROM_HOST + where]] >= times.end_s[task]
        assert times.end_s[passes[FROM_HOST + where]] <= times.start_s[passes["backward_input" + where]]
    for pool in range(len(graph.pools)):
        assert sum(one.change_bytes for one in graph.memory if one.pool == pool) == pytest.approx(0, abs=1e-3)


def test_both_clocks_agree_where_every_gpu_has_its_own_bus():
    quick, clocked = simulate_training(scenario(1.0)), simulate_training(scenario(1.0), exact=True)
    assert quick.times.start_s == pytest.approx(clocked.times.start_s, rel=1e-12)


def test_a_copy_alone_takes_its_bytes_over_the_bus():
    run = simulate_training(scenario(1.0))
    for task in copies(run, TO_HOST):
        size = run.graph.transfer[task].size_bytes
        assert run.graph.duration_s[task] == pytest.approx(size / PCIE, rel=1e-4)
        assert run.times.end_s[task] - run.times.start_s[task] == pytest.approx(size / PCIE, rel=1e-4)


def test_gpus_under_one_switch_hold_each_other_up():
    own, shared = (simulate_training(scenario(1.0, node)) for node in ("dgx-a100-80gb", "dgx-a100-80gb-pcie-tree"))
    assert shared.step_s >= own.step_s
    longest = max(
        (shared.times.end_s[task] - shared.times.start_s[task]) / shared.graph.duration_s[task]
        for task in copies(shared, TO_HOST)
    )
    assert 1.5 < longest <= 2.0 + 1e-9


def test_ranks_of_a_stage_under_one_switch_have_half_of_its_uplink_each():
    plan = scenario(1.0, "dgx-a100-80gb-pcie-tree", tensor_parallel_size=2)
    run = simulate_training(plan)
    task = copies(run, TO_HOST)[0]
    size = run.graph.transfer[task].size_bytes
    assert run.graph.duration_s[task] == pytest.approx(2 * size / PCIE, rel=1e-4)


def test_less_stays_on_the_gpu_the_more_leaves_and_the_host_holds_the_rest():
    peaks, host = [], []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        run = simulate_training(scenario(fraction))
        peaks.append(max(peak.owners["activations"] for peak in run.memory.peaks))
        usage = MemoryLedger(run.graph).usage(run.times)
        pools = [pool for pool, one in enumerate(run.graph.pools) if one.name == "host"]
        host.append(sum(usage.peak(pool).owners[HOST_MEMORY] for pool in pools))
    assert peaks == sorted(peaks, reverse=True)
    assert host == sorted(host)
    assert host[0] == 0
    assert peaks[-1] < 0.4 * peaks[0]


@pytest.mark.parametrize("length", [1024, 16384])
def test_copies_hide_behind_passes_but_never_take_longer_than_the_step(length):
    """A layer's round trip over its forward and backward, 10 / (3 (6h + s)) Bc / Bo, falls with the sequence."""
    keys = {"node": "dgx-a100-80gb-pcie-tree", "seq_length": length, "global_batch_size": 32}
    plain, moved = (simulate_training(scenario(fraction, **keys)) for fraction in (0.0, 1.0))
    graph = moved.graph
    busy_s = [0.0] * 4
    for task in copies(moved, TO_HOST) + copies(moved, FROM_HOST):
        busy_s[graph.streams[graph.stream[task]].device] += graph.duration_s[task]
    assert moved.step_s >= max(busy_s)
    assert plain.step_s <= moved.step_s <= 1.05 * plain.step_s
    hidden = max(busy_s) / plain.step_s
    assert hidden > 0.5 if length == 1024 else hidden < 0.5


def test_a_bus_slower_than_the_passes_sets_the_pace():
    plain = simulate_training(scenario(seq_length=1024))
    moved = simulate_training(scenario(1.0, seq_length=1024))
    assert moved.step_s < 1.1 * plain.step_s
    for task in [*copies(moved, TO_HOST), *copies(moved, FROM_HOST)]:
        moved.graph.duration_s[task] *= 20
        moved.graph.transfer.pop(task)
    slowed = max_plus(moved.graph)
    busy_s = sum(
        seconds
        for stream, seconds in zip(moved.graph.stream, moved.graph.duration_s, strict=True)
        if stream >= 0 and moved.graph.streams[stream].name == "copy" and moved.graph.streams[stream].device == 1
    )
    assert slowed.makespan_s >= busy_s > 2 * plain.step_s
    assert slowed.makespan_s < 1.4 * busy_s


def test_nothing_leaves_that_is_called_for_at_once():
    run = simulate_training(scenario(1.0, pipeline_parallel_size=2, layers_per_stage=None,
                                     schedule={"name": "1f1b"}))  # fmt: skip
    names = {run.graph.name[task] for task in copies(run, TO_HOST)}
    assert not any(name.endswith("stage 1") for name in names)  # the last stage goes back right after its forward
