"""What is the user's own in a server is told figure by figure; the catalog's servers and true copies have nothing."""

from pathlib import Path

import pytest

from hardware_models import catalog
from hardware_models.own_figures import own_figures
from hardware_models.variation import changeable, parse_change, vary_node
from hardware_models.variation_file import spec_toml, write_variation


def told(folder: Path, *changes: str, original: str = "dgx-h100") -> dict[str, str]:
    variation = vary_node(original, "mine", [parse_change(change) for change in changes])
    return own_figures(catalog.node(str(write_variation(variation, folder))))


@pytest.mark.parametrize("name", catalog.names("node"))
def test_the_catalog_s_servers_and_true_copies_have_none(name: str, tmp_path: Path) -> None:
    node = catalog.node(name)
    assert own_figures(node) == {}
    parts = {"gpu": catalog.gpu(node.gpu), "pcie": catalog.link(node.pcie)}
    same = [f"{part}.{key}=1x" for part, spec in parts.items() for key in changeable(spec)]
    assert told(tmp_path, *same, "network.bandwidth_bytes_per_s=1x", "gpus=1x", original=name) == {}


def test_factors_values_and_what_goes_along_are_told(tmp_path: Path) -> None:
    found = told(
        tmp_path, "gpu.memory_bandwidth_bytes_per_s=2x", "gpu.l2_bytes=123456789", "gpu.sm_count=2x", "gpus=4",
        "scale_up_group=4", "scale_up.bandwidth_bytes_per_s=0.5x", "network.bandwidth_bytes_per_s=2x",
    )  # fmt: skip
    assert found["gpu.memory_bandwidth_bytes_per_s"] == "2x of h100-sxm"
    assert found["gpu.l2_bytes"] == "123456789"
    assert found["gpu.peak_flop_per_s.bf16"] == "2x of h100-sxm"
    assert found["gpus"] == "0.5x of dgx-h100"
    assert found["scale_up.bandwidth_bytes_per_s"] == "0.5x of nvlink4-switch"
    assert found["nic.bandwidth_bytes_per_s"] == "2x of connectx-7"
    assert found["network.bandwidth_bytes_per_s"] == "2x of infiniband-ndr"
    assert not {"gpu", "nic", "nic.link", "gpu.tdp_w", "nics"} & set(found)


def test_a_factor_is_told_only_where_it_says_all(tmp_path: Path) -> None:
    near = told(tmp_path, "gpu.memory_bandwidth_bytes_per_s=2.0000000001x")
    assert near == {"gpu.memory_bandwidth_bytes_per_s": str(2.0000000001 * 3.35e12)}


def test_another_part_is_told_by_name_and_a_part_that_varies_nothing_in_full(tmp_path: Path) -> None:
    file = write_variation(vary_node("dgx-h100", "mine", [parse_change("gpu.memory_bytes=1x")]), tmp_path)
    text = file.read_text()
    file.write_text(text.replace('"mine/gpu.toml"', '"h200"'))
    assert own_figures(catalog.node(str(file))) == {"gpu": "h200"}
    file.write_text(text)
    own = catalog.gpu("h100-sxm").model_copy(update={"name": "h1000", "sm_count": 200})
    (tmp_path / "mine" / "gpu.toml").write_text(spec_toml(own))
    found = own_figures(catalog.node(str(file)))
    assert (found["gpu"], found["gpu.sm_count"]) == ("h1000", "200")
    assert found["gpu.memory_bandwidth_bytes_per_s"] == "3350000000000.0"
