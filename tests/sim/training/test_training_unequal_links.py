"""Steps on clusters whose links are unequal, and where nodes stand in them."""

from pathlib import Path
from typing import Any

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.identity import scenario_id
from sim.scenario_file import load_any, parse_any
from sim.training.pipeline_hops import PipelineHops
from sim.training.simulate import TrainingRun, simulate_training
from sim.training_scenario import TrainingScenario

SLOW = {"nodes": [0, 1], "slowdown": 4.0}


def tables(cluster: dict[str, Any], **training: Any) -> dict[str, Any]:
    keys = {"seq_length": 1024, "global_batch_size": 16, "framework": "megatron-lm-2022", "sharding": "none"}
    layout = {"tensor_parallel_size": 4, "pipeline_parallel_size": 4, "check_memory": False}
    return {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "dgx-a100-80gb", "nodes": 4} | cluster,
        "training": keys | layout | training,
    }


def read(folder: Path, **cluster: Any) -> Any:
    return parse_any(tables(cluster), "s.toml", folder)


def run(*slow: dict[str, Any], exact: bool = False, **training: Any) -> TrainingRun:
    scenario = TrainingScenario.model_validate(tables({"slow_links": list(slow)}, **training))
    return simulate_training(scenario, exact=exact)


def test_only_links_that_are_talked_over_make_a_step_longer() -> None:
    alike = run().step_s  # pipelines over nodes 0, 1, 2, 3: a stage a node, its two copies inside
    assert run(SLOW | {"slowdown": 1.0}).step_s == alike
    assert run(SLOW).step_s > alike
    assert run({"nodes": [0, 2], "slowdown": 4.0}).step_s == pytest.approx(alike, rel=1e-12)
    assert run({"nodes": [1], "slowdown": 4.0}).step_s > run(SLOW).step_s  # both its neighbours talk to it


def test_a_send_takes_its_pair_s_time_and_both_clocks_agree() -> None:
    slow, clocked = run(SLOW), run(SLOW, exact=True)
    assert slow.step_s == pytest.approx(clocked.step_s, rel=1e-9)
    hops = PipelineHops(slow.deployment)
    sends = {
        slow.graph.streams[slow.graph.stream[task]].device: slow.graph.duration_s[task]
        for task, kind in enumerate(slow.graph.kind) if kind == "send forward"
    }  # fmt: skip
    expected = {device: hops.seconds(device, device + 1, 4.0 if device == 0 else 1.0) for device in range(3)}
    assert sends == pytest.approx(expected, rel=1e-9)


def test_a_ring_of_copies_is_as_fast_as_its_slowest_pair() -> None:
    keys = {"pipeline_parallel_size": 1, "tensor_parallel_size": 8}  # copies on nodes 0, 1, 2, 3 in a ring
    alike, one = run(**keys).step_s, run(SLOW, **keys).step_s
    assert alike < one == run(SLOW, {"nodes": [2, 3], "slowdown": 4.0}, **keys).step_s
    assert run({"nodes": [0, 2], "slowdown": 4.0}, **keys).step_s == pytest.approx(alike, rel=1e-12)
    other = run({"nodes": [0, 2], "slowdown": 4.0}, node_mapping={"name": "order", "nodes": [0, 2, 1, 3]}, **keys)
    assert other.step_s == pytest.approx(one, rel=1e-12)


def test_the_slowest_pipeline_of_all_copies_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"pipeline_parallel_size": 2, "tensor_parallel_size": 8, "sharding": "zero1"}
    slow = [{"nodes": [0, 2], "slowdown": 2.0}, {"nodes": [1, 3], "slowdown": 3.0}]  # of the first copy, of the second
    first, both = run(slow[0], **keys).step_s, run(*slow, **keys).step_s
    assert both == pytest.approx(run(slow[1], **keys).step_s, rel=1e-12)
    assert both > first
    monkeypatch.setattr("sim.training.unequal_links.MOST_PIPELINES", 1)
    assert run(*slow, **keys).step_s == pytest.approx(both, rel=1e-12)


@pytest.mark.parametrize("name", ["annealing", "exact"])
def test_a_mapping_takes_the_nodes_off_the_slow_link(name: str) -> None:
    found = run(SLOW, node_mapping=name)
    assert found.step_s == pytest.approx(run().step_s, rel=1e-12)
    assert found.mapping is not None
    assert found.mapping.optimal
    assert found.mapping.gain_fraction > 0
    again = run(SLOW, node_mapping={"name": "order", "nodes": list(found.mapping.order)})
    assert again.step_s == found.step_s
    assert run(node_mapping=name).mapping is None  # links are alike


def test_groups_that_share_layers_across_nodes_are_as_slow_as_their_slowest_pair() -> None:
    keys = {"tensor_parallel_size": 16, "pipeline_parallel_size": 2, "global_batch_size": 4}
    alike, slow = run(**keys), run(SLOW, **keys)
    assert slow.deployment.stages[0].forward.seconds > alike.deployment.stages[0].forward.seconds
    assert run({"nodes": [0, 3], "slowdown": 4.0}, **keys).step_s == pytest.approx(alike.step_s, rel=1e-12)


def test_a_measured_matrix_is_read_from_a_file_and_is_part_of_what_a_result_is_of(tmp_path: Path) -> None:
    rows = [[0.0, 10e9, 5e9], [10e9, 0.0, 10e9], [5e9, 10e9, 0.0]]
    path = tmp_path / "links.toml"
    path.write_text(f'name = "mine"\nbytes_per_s = {rows}\n')
    scenario = read(tmp_path, nodes=2, node_links="links.toml")
    before, alike = scenario_id(scenario), read(tmp_path, nodes=2)
    assert simulate_training(scenario).step_s == simulate_training(alike).step_s  # the first two nodes are well joined
    path.write_text(f'name = "mine"\nfull_bytes_per_s = 20e9\nbytes_per_s = {rows}\n')
    assert scenario_id(scenario) != before
    assert simulate_training(scenario).step_s > simulate_training(alike).step_s
    with pytest.raises(FleetcastError, match=r"has 3 nodes, cluster\.nodes = 4; measure the others"):
        simulate_training(read(tmp_path, node_links="links.toml"))
    path.write_text('name = "mine"\nbytes_per_s = [[0.0, 10.0], [10e9, 0.0]]\n')
    with pytest.raises(FleetcastError, match="of nodes 0 and 1 is 10; give bytes/s of at least 1e6"):
        simulate_training(scenario)


@pytest.mark.parametrize(
    ("cluster", "training", "words"),
    [
        ({"slow_links": [{"nodes": [4], "slowdown": 2.0}]}, {}, "cluster.nodes = 4 has nodes 0 to 3"),
        ({"slow_links": [SLOW]}, {"node_mapping": {"name": "order", "nodes": [0, 1]}}, "is no order of 4 nodes"),
        ({"slow_links": [SLOW]}, {"node_mapping": "anealing"}, "did you mean 'annealing'"),
        ({"slow_links": [SLOW]}, {"gradient_reduce": "hfreduce"}, "is not modelled on unequal links"),
    ],
)
def test_what_cannot_be_is_refused(cluster: dict[str, Any], training: dict[str, Any], words: str) -> None:
    with pytest.raises(FleetcastError, match=words):
        simulate_training(TrainingScenario.model_validate(tables(cluster, **training)))


def test_a_catalog_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match="did you mean 'hdr-16n-uneven'"):
        read(tmp_path, node_links="hdr-16n-unevn")
    with pytest.raises(UnknownNameError):
        simulate_training(TrainingScenario.model_validate(tables({"node_links": "hdr-16n-unevn"})))


def test_the_shipped_cluster_loses_less_with_its_nodes_placed() -> None:
    path = Path(__file__).parents[3] / "scenarios" / "gpt-39b-128xa100-uneven-links.toml"
    small = ("training.global_batch_size=64", "training.pipeline_parallel_size=4", "training.schedule=1f1b")
    placed, own = (
        simulate_training(load_any(path, (*small, f"training.node_mapping={name}")))  # type: ignore[arg-type]
        for name in ("annealing", "identity")
    )
    assert placed.undisturbed_s == own.undisturbed_s < placed.step_s < own.step_s
