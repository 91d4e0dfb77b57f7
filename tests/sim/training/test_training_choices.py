"""What a scenario changes of its model, its framework and its optimizer, and what a step makes of it."""

from typing import Any

import pytest

from hardware_models.errors import FleetcastError
from sim.training.deployment import deploy_training
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario


def scenario(model: dict[str, Any] | None = None, **training: Any) -> TrainingScenario:
    keys = {"seq_length": 2048, "global_batch_size": 16, "framework": "megatron-lm-2023", "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "gpt3-13b"} | (model or {}),
            "cluster": {"node": "dgx-a100-80gb", "nodes": 2},
            "training": keys | {"tensor_parallel_size": 8} | training,
        }
    )


@pytest.mark.parametrize(
    ("model", "training"),
    [({"parallel_block": True}, {}), ({"sliding_window": 512}, {}), ({}, {"tp_comm_overlap": True})],
)
def test_changes_for_speed_make_a_step_shorter(model: dict[str, Any], training: dict[str, Any]) -> None:
    plain, changed = run_training(scenario()).summary, run_training(scenario(model, **training)).summary
    assert changed["step_s"] < plain["step_s"]
    work = changed["model_flop_per_s_per_gpu"] * changed["step_s"]
    whole = plain["model_flop_per_s_per_gpu"] * plain["step_s"]
    assert work < whole if "sliding_window" in model else work == pytest.approx(whole)  # MFU counts no hidden pairs
    assert changed["memory"]["peak_bytes"] <= plain["memory"]["peak_bytes"]


def test_lamb_reads_and_writes_more_and_keeps_as_much() -> None:
    adam, lamb = (run_training(scenario(optimizer=name)) for name in ("adam", "lamb"))
    moved = [one.run.exchanges.optimizer_bytes(0) for one in (adam, lamb)]
    assert moved[1] - moved[0] == pytest.approx(20 * adam.run.exchanges.state_parameters(0))
    assert lamb.summary["step_s"] > adam.summary["step_s"]
    assert lamb.summary["memory"] | {"at_s": 0} == adam.summary["memory"] | {"at_s": 0}


def test_a_window_that_holds_the_sequence_and_a_block_as_it_is_change_nothing() -> None:
    plain = deploy_training(scenario()).stages
    assert deploy_training(scenario({"sliding_window": 4096, "parallel_block": False})).stages == plain


def test_what_a_model_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(FleetcastError, match=r"model\.parallel_block = true: layers of mixtral-8x7b have experts"):
        deploy_training(scenario({"config": "mixtral-8x7b", "parallel_block": True}))
    with pytest.raises(FleetcastError, match=r"model\.sliding_window = 512: layers of deepseek-v2-lite have latent"):
        deploy_training(scenario({"config": "deepseek-v2-lite", "sliding_window": 512}))
    with pytest.raises(FleetcastError, match=r"training\.optimizer.*'lam'.*lamb"):
        run_training(scenario(optimizer="lam"))
    with pytest.raises(FleetcastError, match=r"training\.node_mapping 'order': has no 'nodes'; give it"):
        run_training(scenario(node_mapping="order"))
