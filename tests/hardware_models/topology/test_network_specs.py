"""Descriptions of networks and PCIe trees: what cannot be is refused, what is absent is a plain tree."""

import re
from pathlib import Path

import pytest

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.spec_file import validated
from hardware_models.specs import ClusterSpec
from hardware_models.topology.shape import Shape
from hardware_models.topology.topology import Topology
from hardware_models.variation import vary_node
from hardware_models.variation_file import write_variation

NODES = Path(catalog.__file__).parent / "nodes"
PLAIN = {
    "name": "test", "node": "dgx-h100", "nodes": 64, "network": "infiniband-ndr", "nodes_per_leaf": 8,
    "oversubscription": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nodes_per_pod": 12}, "nodes_per_leaf 8 does not divide nodes_per_pod 12"),
        ({"fabric": "dragonfly"}, "a dragonfly needs nodes_per_pod"),
        ({"fabric": "dragonfly", "nodes_per_pod": 16, "pod_oversubscription": 2.0}, "no pod_oversubscription"),
        ({"links_per_group_pair": 2}, "are of a dragonfly; leave them out"),
        ({"pod_oversubscription": 2.0}, "pod_oversubscription needs nodes_per_pod"),
        ({"fabric": "torus"}, "fabric = 'torus'"),
        ({"routing": "random"}, "routing = 'random'"),
        ({"plane": 8}, "unknown key 'plane' = 8; did you mean 'planes'?"),
        ({"planes": 0}, "planes = 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(FleetcastError, match=re.escape(sentence)):
        validated(ClusterSpec, PLAIN | changes, "test")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("gpus = [5, 6]", "gpus = [5, 8]", "gpus 8 is none of the 8, or hangs twice"),
        ("gpus = [5, 6]", "gpus = [5, 5]", "gpus 5 is none of the 8, or hangs twice"),
        ("gpus = [5, 6]", "nics = [1]", "nics 1 is none of the 1"),
        ("gpus = [5, 6]", 'under = "top"', "'shared port' is there twice, or before the one it is under"),
        ("gpus = [5, 6]", "gpu = [5, 6]", "unknown key 'pcie_switches.0.gpu' = [5, 6]; did you mean 'gpus'?"),
        ("uplink_bytes_per_s = 37.5e9", "uplink_bytes_per_s = 37.5", "pcie_switches.0.uplink_bytes_per_s = 37.5"),
        ('name = "shared port"', "", "missing key 'pcie_switches.0.name'"),
    ],
)
def test_a_pcie_tree_that_cannot_be_is_refused_in_one_sentence(tmp_path, old, new, sentence):
    text = (NODES / "fire-flyer-2.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "box.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(FleetcastError, match=re.escape(sentence)) as caught:
        catalog.node(str(path))
    assert "\n" not in str(caught.value)


def test_a_copy_of_a_server_keeps_its_pcie_tree(tmp_path):
    file = write_variation(vary_node("fire-flyer-2", "mine", []), tmp_path)
    assert catalog.node(str(file)).pcie_switches == catalog.node("fire-flyer-2").pcie_switches


def test_what_is_absent_is_one_plane_of_two_levels():
    spec = validated(ClusterSpec, PLAIN, "test")
    shape = Shape.of(catalog.node("dgx-h100"), spec)
    assert (shape.planes, shape.pods, shape.pod_oversubscription) == (1, 1, 1.0)
    assert (shape.leaf_ports, shape.leaves_per_pod) == (64, 8)
    rails = Shape.of(catalog.node("dgx-h100"), spec.model_copy(update={"rail_optimised": True}))
    assert (rails.leaf_ports, rails.leaves_per_pod) == (8, 64)


def test_published_networks_have_the_sizes_that_were_published():
    assert Topology.of("frontier").devices == 75_264
    assert Topology.of("meta-llama3-24k").devices == 24_576
    assert Topology.of("deepseek-v3-h800").devices == 2_048
    assert Topology.of("fire-flyer-2").devices == 10_000
    zones = Shape.of(catalog.node("fire-flyer-2"), catalog.cluster("fire-flyer-2"))
    assert zones.pods == 2
    groups = Shape.of(catalog.node("mi250x-4x"), catalog.cluster("frontier"))
    assert (groups.pods, groups.leaves_per_pod, groups.leaf_ports) == (74, 32, 16)
