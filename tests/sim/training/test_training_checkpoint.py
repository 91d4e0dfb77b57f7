"""Checkpoints of a training scenario: their figures, what they add to a whole training, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest

from hardware_models.errors import FleetcastError
from sim.offload.phases import phase_seconds
from sim.scenario_file import parse_any
from sim.training.checkpoint import sentence
from sim.training.result import TrainingResult, run_training
from sim.training_scenario import TrainingScenario


def result(**sections: dict[str, Any]) -> TrainingResult:
    tables: dict[str, Any] = {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "polaris"},
        "training": {"seq_length": 1024, "global_batch_size": 8, "micro_batch_size": 2, "recompute": "full"},
    }
    training = tables["training"] | sections.pop("training", {})
    found = parse_any(tables | sections | {"training": training}, "test", Path())
    assert isinstance(found, TrainingScenario)
    return run_training(found)


def test_a_checkpoint_holds_every_weight_and_state_once_and_its_waits_add_to_the_whole_training() -> None:
    goal = {"train_tokens": 1e9}
    plain = result(training=goal).summary
    summary = result(training=goal, checkpoint={"policy": "synchronous", "every": 3}).summary
    saving = summary["checkpoint"]
    assert saving["total_bytes"] == pytest.approx(1.3e9 * 14, rel=0.03)
    assert saving["written_bytes"] == saving["copied_bytes"] == pytest.approx(saving["count"] * saving["rank_bytes"])
    assert saving["iteration_s"] == pytest.approx(plain["step_s"] + saving["blocked_s"] / 3)
    longer = summary["time_to_train"]["days"] / plain["time_to_train"]["days"]
    assert longer == pytest.approx(saving["iteration_s"] / plain["step_s"])
    assert sentence(saving) in summary["notes"]


def test_states_below_the_gpu_and_servers_without_storage_are_refused() -> None:
    with pytest.raises(FleetcastError, match=r"checkpoint: states of \[offload\]"):
        result(checkpoint={"policy": "async"}, offload={"policy": "zero_offload"})
    with pytest.raises(FleetcastError, match="has no drives"):
        result(checkpoint={"policy": "async"}, cluster={"node": "gcp-a2-highgpu-4g"})


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"name": "datastates", "host_buffer_bytes": 1e13}, r"host_buffer_bytes = 1e\+13: polaris.*give at most"),
        ({"name": "async"}, "snapshots would take .* GB more than it has"),
    ],
)
def test_rings_and_snapshots_beyond_host_memory_are_refused(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetcastError, match=said):
        result(
            model={"config": "llama-2-70b"},
            training={"tensor_parallel_size": 4, "check_memory": False},
            checkpoint={"policy": policy},
        )


def test_phases_of_an_offloaded_step_sum_to_it() -> None:
    run = result(offload={"policy": "deep_optimizer_states"}).run
    phases = phase_seconds(run.graph, run.times, 1)
    assert sum(phases.values()) == pytest.approx(run.step_s)
    assert all(seconds > 0.0 for seconds in phases.values())
