"""Latent attention in training: its arithmetic, and what is kept of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from hardware_models.ops import AttentionTraining, Gemm
from policies.parallelism.recompute import Recompute, Selective
from workloads.models.architecture import LatentAttentionSpec
from workloads.models.catalog import model as load_model
from workloads.models.weights import layer_weights
from workloads.training.cut import Cut, Kernels
from workloads.training.layer import layer_operators
from workloads.training.operator import TrainingOperator
from workloads.training.precision import FP8_RECIPES

V3 = load_model("deepseek-v3")
DENSE, SPARSE = V3.groups if V3.groups[0].count == 3 else V3.groups[::-1]
MODULES = ("core_attn", "layernorm", "mla_up_proj", "moe_act")


def operators(tp: int = 1, group: int = 0, **cut: object) -> tuple[TrainingOperator, ...]:
    sizes = {"micro_batch": 1, "seq_length": 4096, "tp": tp, "sequence_parallel": tp > 1, "attention": "flash3"} | cut
    return layer_operators(V3, (DENSE, SPARSE)[group], Cut(**sizes), Kernels())  # type: ignore[arg-type]


def flop(layer: tuple[TrainingOperator, ...]) -> float:
    return sum(float(op.flop) for one in layer for op in one.forward if isinstance(op, Gemm))


def test_forward_multiplies_every_matrix_of_the_layer_once_a_token() -> None:
    matrices = sum(weight.elements for weight in layer_weights(V3, DENSE) if weight.multiplies)
    assert flop(operators()) == pytest.approx(2.0 * 4096 * matrices)


@given(tp=st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=4, deadline=None)
def test_tensor_parallel_ranks_share_latent_attention_out(tp: int) -> None:
    assert tp * flop(operators(tp)) == pytest.approx(flop(operators()))


def test_queries_and_keys_are_wider_than_values() -> None:
    core = next(one for one in operators() if one.part == "attention_core")
    (kernel,) = core.forward
    assert isinstance(kernel, AttentionTraining)
    assert (kernel.qk_dim, kernel.v_dim, kernel.heads) == (192, 128, 128)
    assert core.input_bytes == 4096 * 128 * (192 + 192 + 128) * 2


@given(
    chosen=st.sets(st.sampled_from(MODULES)), tp=st.sampled_from([1, 4]), group=st.integers(0, 1),
    recipe=st.sampled_from([None, "delayed", "blockwise"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_each_module_computed_again_saves_memory_and_never_more_than_there_is(
    chosen: set[str], tp: int, group: int, recipe: str | None
) -> None:
    layer = operators(tp, group, fp8=None if recipe is None else FP8_RECIPES[recipe])
    everything = Recompute().saved_bytes(layer, 0.0, 0)
    kept = Selective(modules=tuple(sorted(chosen))).saved_bytes(layer, 0.0, 0)  # type: ignore[arg-type]
    assert 0.0 < kept <= everything
    for module in chosen - ({"moe_act"} if group == 0 else set()):
        without = Selective(modules=tuple(sorted(chosen - {module}))).saved_bytes(layer, 0.0, 0)  # type: ignore[arg-type]
        assert kept < without


def test_norms_and_up_projections_computed_again_leave_latent_vectors_and_outputs() -> None:
    """Of attention in bf16: what came in, the latent vectors, the sums of exponentials, and outputs."""
    layer = [one for one in operators() if one.name not in ("mlp_norm", "up_proj", "activation", "down_proj")]
    spec = DENSE.attention
    assert isinstance(spec, LatentAttentionSpec)
    kept = Selective(modules=("layernorm", "mla_up_proj")).saved_bytes(tuple(layer), 0.0, 0)
    latent = 2 * 4096 * (spec.q_lora_rank + spec.kv_lora_rank)
    assert kept == pytest.approx(2 * 4096 * 7168 + latent + 4 * 4096 * 128 + 2 * 4096 * 128 * 128)


def test_chains_of_products_are_refused_for_latent_attention() -> None:
    with pytest.raises(
        ImpossibleError, match="attention = 'standard': latent attention is modelled with fused kernels"
    ):
        operators(attention="standard")
