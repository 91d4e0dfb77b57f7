"""No key of a plan is without effect in silence: it changes a figure, is refused, or is named in a note."""

from typing import Any

import pytest

from hardware_models.errors import FleetcastError, ImpossibleError
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario, TrainingSection

SIZES = {  # keys that any plan reads, or whose wrong values other tests look at
    "framework", "seq_length", "global_batch_size", "micro_batch_size", "tensor_parallel_size", "data_parallel_size",
    "pipeline_parallel_size", "context_parallel_size", "expert_parallel_size", "fp8_recipe", "precision", "slow_gpus",
    "slow_cards", "stage_profile", "train_tokens", "critical_batch_tokens", "rampup_batch_size", "check_memory",
}  # fmt: skip
OTHER: dict[str, list[Any]] = {  # values that are not what holds in the plans below anyway
    "context_parallel": ["ulysses"],
    "expert_tensor_parallel_size": [2],
    "sequence_parallel": [True],
    "schedule": ["gpipe", {"name": "interleaved_1f1b", "chunks": 2}, {"name": "1f1b", "chunks": 2}],
    "layers_per_stage": ["balanced"],
    "account_for_embedding_in_pipeline_split": [True],
    "account_for_loss_in_pipeline_split": [True],
    "sharding": [
        "zero2", "zero3", {"name": "zero1", "overlap_param_gather": False},
        {"name": "none", "overlap_param_gather": True}, {"name": "zero3", "overlap_grad_reduce": False},
    ],
    "recompute": ["full"],
    "gradient_reduce": ["hierarchical", "hfreduce"],
    "grad_reduce_in_bf16": [True],
    "moe_token_dispatcher_type": ["flex"],
    "moe_load_imbalance": [1.0],
    "mtp_num_layers": [1],
    "overlap_moe_expert_parallel_comm": [True],
    "activation_offload": ["stages"],
    "overlap_p2p_communication": [False],
    "tp_comm_overlap": [True],
    "optimizer": ["lamb"],
    "attention": ["standard"],
    "dropout": [True],
    "fused_norm": [False],
    "fused_softmax": [False],
    "node_mapping": ["annealing"],
    "jitter_fraction": [0.1],
}  # fmt: skip
PLANS: dict[str, dict[str, Any]] = {
    "one GPU": {"data_parallel_size": 1},
    "copies": {},
    "experts": {"model": "deepseek-v2-lite", "expert_parallel_size": 8},
    "a dense model on all": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "sequence_parallel": False},
}


def summary(model: str = "gpt3-1.3b", **training: Any) -> dict[str, Any]:
    keys = {"seq_length": 2048, "global_batch_size": 16, "check_memory": False}
    tables = {
        "model": {"config": model},
        "cluster": {"node": "dgx-a100-80gb", "nodes": 1},
        "training": keys | training,
    }
    return run_training(TrainingScenario.model_validate(tables)).summary


def figures(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "notes"}


def test_every_key_is_looked_at() -> None:
    assert set(TrainingSection.model_fields) - SIZES == set(OTHER)


@pytest.mark.parametrize("plan", PLANS)
def test_no_key_is_without_effect_in_silence(plan: str) -> None:
    before = summary(**PLANS[plan])
    assert not any("no effect" in note for note in before["notes"])
    silent = [
        f"{key} = {value}"
        for key, values in OTHER.items()
        for value in values
        if not effect({**PLANS[plan], key: value}, key, before)
    ]
    assert silent == []


def effect(keys: dict[str, Any], key: str, before: dict[str, Any]) -> bool:
    """Another figure, or a sentence that names the key."""
    try:
        after = summary(**keys)
    except FleetcastError as refused:
        return key in str(refused)
    named = any(note.startswith(f"training.{key}") for note in after["notes"])
    return named or figures(after) != figures(before)


def test_a_sweep_over_tensor_parallel_sizes_keeps_its_keys() -> None:
    for tp in (1, 2, 4):
        notes = summary(tensor_parallel_size=tp, sequence_parallel=True, tp_comm_overlap=True)["notes"]
        assert len([note for note in notes if "has no effect" in note]) == (2 if tp == 1 else 0)


def test_links_that_are_all_alike_and_windows_that_spare_nothing_are_named() -> None:
    tables = {
        "model": {"config": "gpt3-1.3b", "sliding_window": 256},
        "cluster": {"node": "dgx-a100-80gb", "nodes": 1, "slow_links": [{"nodes": [0], "slowdown": 2.0}]},
        "training": {"seq_length": 2048, "global_batch_size": 16, "attention": "standard", "check_memory": False},
    }
    notes = run_training(TrainingScenario.model_validate(tables)).summary["notes"]
    assert "cluster.slow_links has no effect: there is one node" in notes
    assert any(note.startswith("model.sliding_window makes no step shorter") for note in notes)


def test_a_ramp_that_the_schedule_cannot_run_is_named() -> None:
    interleaved = {"name": "interleaved_1f1b", "chunks": 2}
    keys: dict[str, Any] = {"pipeline_parallel_size": 2, "schedule": interleaved, "train_tokens": 1e9}
    with pytest.raises(ImpossibleError, match=r"rampup_batch_size = \[4, 4, 1000\]: of its steps, 4 sequences cannot"):
        summary(**keys, rampup_batch_size=[4, 4, 1000])
