"""Summaries on hardware of the user's own: equal where it is equal, and honest about what differs."""

import numpy as np
import pytest
from engines import served, table

from hardware_models import catalog
from hardware_models.variation import changeable, parse_change, vary_node
from hardware_models.variation_file import write_variation

PARTS = {"gpu": "h100-sxm", "scale_up": "nvlink4-switch", "pcie": "pcie5-x16", "network": "infiniband-ndr"}


def varied(folder, *changes: str) -> str:
    variation = vary_node("dgx-h100", "mine", [parse_change(change) for change in changes])
    return str(write_variation(variation, folder))


@pytest.mark.parametrize(
    "plan", [{"tensor_parallel_size": 8}, {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}]
)
def test_a_factor_of_one_reproduces_every_value_of_the_original_s_summary(tmp_path, plan):
    requests = table(np.arange(20) * 0.05, [300] * 20, [40] * 20)
    specs = {part: catalog.gpu(name) if part == "gpu" else catalog.link(name) for part, name in PARTS.items()}
    same = [f"{part}.{key}=1x" for part, spec in specs.items() for key in changeable(spec)]
    same += [f"{key}=1x" for key in changeable(catalog.node("dgx-h100"))]
    copy, original = (
        served(requests, node=node, nodes=2, **plan).summary for node in (varied(tmp_path, *same), "dgx-h100")
    )
    assert copy.pop("node") == "mine"
    assert original.pop("node") == "dgx-h100"
    assert copy == original
    assert copy["hardware"] == {}


def test_figures_of_one_s_own_are_told_and_cost_what_the_original_costs(tmp_path):
    requests = table([0.0], [10], [2])
    own, original = (
        served(requests, node=node).summary
        for node in (varied(tmp_path, "gpu.memory_bandwidth_bytes_per_s=2x"), "dgx-h100")
    )
    assert own["hardware"] == {"gpu.memory_bandwidth_bytes_per_s": "2x of h100-sxm"}
    assert own["usd_per_gpu_h"] == original["usd_per_gpu_h"] > 0
    assert own["cost_usd"] == pytest.approx(own["usd_per_gpu_h"] * 8 * own["duration_s"] / 3600)
    added = [note for note in own["notes"] if note not in original["notes"]]
    assert "cost is at the list price of h100-sxm" in added[0]
    assert "taken to draw what h100-sxm draws" in added[1]
    half = served(requests, node=varied(tmp_path, "scale_up.bandwidth_bytes_per_s=0.5x")).summary
    assert half["usd_per_gpu_h"] == original["usd_per_gpu_h"]
    assert [note for note in half["notes"] if note not in original["notes"]] == added[:1]


def test_idle_watts_of_one_s_own_leave_times_and_their_intervals_alone(tmp_path):
    requests = table([0.0], [10], [20])
    own, original = (served(requests, node=node).summary for node in (varied(tmp_path, "gpu.idle_w=0.5x"), "dgx-h100"))
    assert own["grades"] == original["grades"] | {"power": "assumed"}
    for key in ("ttft_s", "tpot_s", "e2e_s"):
        assert own[key] == original[key]
        assert own["interval_90"][key] == original["interval_90"][key]
    assert own["energy_j"] < original["energy_j"]
