"""An offloaded step from a scenario: its figures, its verdicts, and that it is reported like any other step."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from app.offload_step import offload_html
from app.training_report import training_report_lines
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from sim.offload.deployment import deploy_offload
from sim.offload.simulate import simulate_offload
from sim.offload.trainable import largest_trainable
from sim.scenario_file import parse_any
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

INFINITY = {"name": "zero_infinity", "optimizer_state": "nvme", "parameters": "nvme", "activations": "host"}
TABLES: dict[str, Any] = {
    "model": {"config": "gpt3-1.3b"},
    "cluster": {"node": "rtx-4090-8x"},
    "training": {
        "framework": "deepspeed-2023",
        "seq_length": 1024,
        "global_batch_size": 8,
        "micro_batch_size": 8,
        "data_parallel_size": 1,
        "recompute": "full",
    },
    "offload": {"policy": "fuyou"},
}


def scenario(**changes: dict[str, Any]) -> TrainingScenario:
    """The tables above with some keys changed."""
    tables = deepcopy(TABLES)
    for section, keys in changes.items():
        tables[section] |= keys
    found = parse_any(tables, "test", Path())
    assert isinstance(found, TrainingScenario)
    return found


@pytest.mark.parametrize("policy", ["zero_offload", "fuyou", "deep_optimizer_states", INFINITY])
def test_a_step_of_each_policy_adds_up(policy: str | dict[str, Any]) -> None:
    result = run_training(
        scenario(offload={"policy": policy}, training={"data_parallel_size": 2, "global_batch_size": 16})
    )
    summary = result.summary
    use = summary["offload"]
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 + 1e-9 for share in use["busy_fraction"].values())
    assert sum(use["critical_s"].values()) == pytest.approx(summary["step_s"])
    assert summary["memory"]["fits"]
    text = "\n".join(training_report_lines(result, None))
    assert "largest model that fits" in text
    assert "host memory, a rank" in text
    assert use["policy"] in offload_html(summary)


def test_a_plan_beyond_host_memory_says_which_tier_and_how_much() -> None:
    with pytest.raises(FleetcastError, match=r"host memory is \d+\.\d GB short.*optimizer states"):
        simulate_offload(scenario(offload={"policy": "zero_offload", "host_memory_bytes": 8e9}))


def test_a_server_without_drives_cannot_use_them() -> None:
    with pytest.raises(FleetcastError, match="drives"):
        simulate_offload(scenario(offload={"drives": 0}, training={"check_memory": False}))


def test_layers_are_not_split_beside_offload() -> None:
    with pytest.raises(FleetcastError, match=r"training\.tensor_parallel_size"):
        simulate_offload(scenario(training={"tensor_parallel_size": 2}))


def test_175b_trains_on_one_card_with_fuyou_where_zero_infinity_lacks_host_memory() -> None:
    def largest(policy: str | dict[str, Any]) -> float:
        wide = scenario(model={"config": "gpt3-175b"}, training={"check_memory": False}, offload={"policy": policy})
        return largest_trainable(deploy_offload(wide)).parameters

    assert largest(INFINITY) < 175e9 < largest("fuyou")


@pytest.mark.parametrize("offload", [{"policy": "fuyou"}, None])
def test_a_gpu_of_one_s_own_without_a_list_price_is_run_and_no_cost_is_said(
    tmp_path: Path, offload: dict[str, Any] | None
) -> None:
    for folder, name in (("gpus", "rtx-4090"), ("nodes", "rtx-4090-8x")):
        text = (Path(catalog.__file__).parent / folder / f"{name}.toml").read_text(encoding="utf-8")
        text = text.replace(f'name = "{name}"', f'name = "my-{folder}"')
        text = text.replace('gpu = "rtx-4090"', 'gpu = "gpus.toml"')
        (tmp_path / f"{folder}.toml").write_text(text, encoding="utf-8")
    tables = {key: table for key, table in TABLES.items() if key != "offload" or offload is not None}
    tables["cluster"] = {"node": str(tmp_path / "nodes.toml")}
    tables["training"] = TABLES["training"] | {"global_batch_size": 1, "micro_batch_size": 1}
    found = parse_any(tables, "test", Path())
    assert isinstance(found, TrainingScenario)
    result = run_training(found)
    assert result.summary["usd_per_billion_tokens"] is result.summary["usd_per_gpu_h"] is None
    assert "my-gpus has no list price: no cost is given" in result.summary["notes"]
    assert "my-gpus has no list price" in "\n".join(training_report_lines(result, None))
