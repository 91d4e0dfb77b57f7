"""Runs on a user's own hardware are told apart by what its files say, and never mixed up in memory."""

from pathlib import Path

from hardware_models.variation import parse_change, vary_node
from hardware_models.variation_file import write_variation
from sim.identity import scenario_id
from sim.run import run
from sim.scenario import Scenario


def scenario(node: Path) -> Scenario:
    return Scenario.model_validate(
        {
            "model": {"config": "llama-3-8b"},
            "cluster": {"node": str(node)},
            "serving": {"tensor_parallel_size": 8, "max_num_batched_tokens": 8192},
            "workload": {
                "num_requests": 3,
                "generator": {
                    "name": "synthetic",
                    "arrivals": {"name": "constant", "request_rate": 1.0},
                    "prompt_tokens": 8192,
                    "output_tokens": 5,
                },
            },
        }
    )


def test_another_link_behind_the_same_file_name_is_another_run_with_other_times(tmp_path: Path) -> None:
    found = []
    for factor in ("1x", "0.25x", "1x"):
        changes = [parse_change(f"scale_up.bandwidth_bytes_per_s={factor}")]
        file = write_variation(vary_node("dgx-a100-80gb", "mine", changes), tmp_path)
        found.append((scenario_id(scenario(file)), run(scenario(file)).summary["ttft_s"]["mean"]))
    (first, fast), (second, slow), (third, again) = found
    assert first != second
    assert first == third
    assert slow > 1.1 * fast
    assert again == fast


def test_another_gpu_or_network_behind_the_same_file_name_is_another_run(tmp_path: Path) -> None:
    changes = (
        "gpu.idle_w=1.01x",
        "network.latency_s=1.01x",
        "pcie.bandwidth_bytes_per_s=1.01x",
        "network.bandwidth_bytes_per_s=2x",
    )
    ids = {
        scenario_id(scenario(write_variation(vary_node("dgx-a100-80gb", "mine", [parse_change(text)]), tmp_path)))
        for text in changes
    }
    assert len(ids) == len(changes)
