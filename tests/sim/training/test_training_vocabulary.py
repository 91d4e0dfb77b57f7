"""A training step with its vocabulary divided over the pipeline: what it computes, holds and exchanges."""

import pytest

from hardware_models.errors import ImpossibleError
from sim.training.deployment import deploy_training
from sim.training.meetings import meetings_s
from sim.training.result import run_training
from sim.training.simulate import TrainingRun, simulate_training
from sim.training_scenario import TrainingScenario

NAMES = ("vocab_1", "vocab_2", "interlaced_vocab")


def scenario(schedule: str, vocab_size: int = 64_000, **training: object) -> TrainingScenario:
    plan = {
        "global_batch_size": 16, "seq_length": 2048, "pipeline_parallel_size": 4, "data_parallel_size": 1,
        "sharding": "none", "check_memory": False, "schedule": schedule,
    }  # fmt: skip
    return TrainingScenario.model_validate(
        {
            "model": {"config": "vocabulary-parallel-4b", "vocab_size": vocab_size},
            "cluster": {"node": "dgx-a100-80gb", "nodes": 1},
            "training": plan | training,
        }
    )


def compute_s(run: TrainingRun) -> list[float]:
    """Seconds that each device computes."""
    graph, busy = run.graph, [0.0] * run.deployment.layout.pp
    for stream, seconds in zip(graph.stream, graph.duration_s, strict=True):
        if stream >= 0 and graph.streams[stream].name == "compute":
            busy[graph.streams[stream].device] += seconds
    return busy


@pytest.mark.parametrize("name", NAMES)
def test_both_clocks_agree_and_all_memory_is_given_back(name):
    run, clocked = simulate_training(scenario(name)), simulate_training(scenario(name), exact=True)
    assert run.times.start_s == clocked.times.start_s
    for pool in range(4):
        changes = [change.change_bytes for change in run.graph.memory if change.pool == pool]
        assert sum(changes) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_shares_of_a_step_still_sum_to_one(name):
    summary = run_training(scenario(name)).summary
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0)
    assert summary["energy_j_per_step"] > 0


def test_every_device_holds_its_part_of_both_tables():
    whole, parts = deploy_training(scenario("1f1b")), deploy_training(scenario("vocab_1"))
    hidden, rows = whole.architecture.hidden_size, 64_000
    assert {stage.parameters for stage in parts.stages[4:]} == {2 * rows / 4 * hidden}
    count = [sum(stage.parameters for stage in deployment.stages) for deployment in (whole, parts)]
    assert count[0] == count[1]


def test_a_part_makes_a_fourth_of_the_products_and_one_meeting_makes_no_more():
    whole, one, two = (deploy_training(scenario(name)) for name in ("1f1b", "vocab_2", "vocab_1"))
    logits = 2.0 * 2048 * 64_000 * whole.architecture.hidden_size
    for parts in (one, two):
        share = parts.stages[4]
        assert share.forward.matrix_flop + share.backward.matrix_flop == pytest.approx(3 * logits / 4)
    assert two.stages[4].forward.matrix_flop == pytest.approx(logits / 4)
    assert one.stages[4].forward.matrix_flop == pytest.approx(2 * logits / 4)
    last = whole.stages[3].forward.matrix_flop - whole.stages[2].forward.matrix_flop
    assert last == pytest.approx(logits)


def test_work_is_even_and_the_step_shorter_the_larger_the_vocabulary():
    gains = []
    for vocab_size in (32_000, 128_000, 256_000):
        whole, parts = (simulate_training(scenario(name, vocab_size)) for name in ("1f1b", "vocab_2"))
        even = compute_s(parts)
        assert max(even) < 1.02 * min(even)
        gains.append(whole.step_s / parts.step_s)
    assert gains == sorted(gains)
    assert gains[0] > 1


def test_meetings_are_priced_once_a_micro_batch_and_device():
    run = simulate_training(scenario("vocab_1"))
    kinds = run.graph.kind
    for kind, seconds in meetings_s(run.deployment):
        tasks = [task for task, name in enumerate(kinds) if name == kind]
        assert len(tasks) == 4 * 16
        assert {run.graph.duration_s[task] for task in tasks} == {seconds}
    assert dict(meetings_s(simulate_training(scenario("vocab_2")).deployment)).keys() == {"broadcast", "agree"}
    assert meetings_s(deploy_training(scenario("1f1b"))) == ()


def test_activations_at_the_peak_are_one_or_two_micro_batches_more():
    peaks = {name: simulate_training(scenario(name)).memory.peaks[0] for name in ("1f1b", *NAMES)}
    stage = deploy_training(scenario("vocab_1")).stages[0]
    more = {name: round((peak.owners["activations"]) / stage.activation_bytes) for name, peak in peaks.items()}
    assert more == {"1f1b": 4, "vocab_1": 6, "vocab_2": 5, "interlaced_vocab": 6}


def test_a_vocabulary_is_not_divided_over_one_stage():
    with pytest.raises(ImpossibleError, match=r"training\.schedule: a vocabulary is divided over at least 2"):
        deploy_training(scenario("vocab_1", pipeline_parallel_size=1))


@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3"])
def test_parts_are_sharded_over_copies_like_layers(sharding):
    run = simulate_training(scenario("vocab_1", data_parallel_size=2, sharding=sharding, framework="megatron-core-0.8"))
    assert run.step_s > 0
    parameters = [run.exchanges.device_parameters(device) for device in range(4)]
    stages = run.deployment.stages
    assert parameters == [stages[device].parameters + stages[4 + device].parameters for device in range(4)]
