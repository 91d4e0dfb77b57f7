"""Host memory by allocation rules: ZeRO-Infinity's slots, pinned blocks and temporaries, and MemAscend's."""

import pytest

from policies.offload import LayerWork, OffloadWork
from policies.offload.host_memory import HostRules
from workloads.models import catalog
from workloads.models.matrices import elements, layer_matrices
from workloads.models.weights import embedding_weights, head_weights, layer_weights

GIB = 2.0**30


def qwen() -> OffloadWork:
    """Qwen2.5-32B: its table, its blocks, its head."""
    model = catalog.model("qwen2.5-32b")
    ends = (embedding_weights(model), head_weights(model, shares_embedding=False))
    table, head = (
        float(sum(one.elements for one in weights if one.multiplies or i == 0)) for i, weights in enumerate(ends)
    )
    group = model.groups[0]
    matrices = layer_matrices(model.hidden_size, group)
    assert elements(matrices) == sum(one.elements for one in layer_weights(model, group) if one.multiplies)
    layers = [LayerWork(name, size, 0.0, 0.0, 0.0, 0.0, 0.0) for name, size in (("table", table), ("head", head))]
    return OffloadWork(tuple(layers), matrices=matrices)


def test_slots_of_the_largest_tensor_reserve_what_memascend_found_and_their_own_what_is_used() -> None:
    work = qwen()
    assert HostRules("largest_tensor", "exact", "fused").pool(work) / GIB == pytest.approx(13.05, abs=0.005)
    assert HostRules("by_class", "exact", "fused").pool(work) / GIB == pytest.approx(3.81, abs=0.005)
    assert HostRules("largest_tensor", "powers_of_two", "fused").pool(work) == 16 * GIB


@pytest.mark.parametrize("name", ["gpt2", "mixtral-8x7b", "deepseek-v2-lite", "qwen3-30b-a3b"])
def test_matrices_are_a_layers_weights_but_for_what_is_small(name: str) -> None:
    model = catalog.model(name)
    for group in model.groups:
        whole = sum(one.elements for one in layer_weights(model, group) if one.multiplies)
        assert elements(layer_matrices(model.hidden_size, group)) == pytest.approx(whole, rel=2e-3)


def test_a_search_in_one_pass_needs_no_temporaries_and_reads_each_gradient_once() -> None:
    apart, fused = (HostRules("by_class", "exact", check) for check in ("temporaries", "fused"))
    assert (apart.temporaries(4.0), fused.temporaries(4.0)) == (1.25 * 16.0, 0.0)
    assert fused.scanned(4.0) == 16.0 < apart.scanned(4.0)
