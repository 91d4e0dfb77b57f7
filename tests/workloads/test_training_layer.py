from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.ops import Collective
from policies.parallelism.recompute import Full, Recompute, Selective
from workloads.models.architecture import AttentionSpec, DenseMlp, LayerGroup, ModelArchitecture
from workloads.training.cut import Cut, Kernels
from workloads.training.layer import layer_operators
from workloads.training.operator import TrainingOperator


def gpt(
    hidden: int, heads: int, *, gated: bool = False, kv_heads: int | None = None, **block: Any
) -> ModelArchitecture:
    attention = AttentionSpec(
        heads=heads, kv_heads=kv_heads or heads, head_dim=hidden // heads, qkv_bias=True, output_bias=True
    )
    group = LayerGroup(
        layers=(0,), attention=attention, mlp=DenseMlp(intermediate_size=4 * hidden, gated=gated, bias=not gated)
    )
    return ModelArchitecture(
        name="gpt", model_type="gpt2", hidden_size=hidden, num_layers=1, vocab_size=51200,
        max_position_embeddings=2048, groups=(group,), rotary=False, norm_vectors=2, **block,
    )  # fmt: skip


def operators(model: ModelArchitecture, cut: Cut) -> tuple[TrainingOperator, ...]:
    return layer_operators(model, model.groups[0], cut, Kernels())


SIZES = {"b": st.sampled_from([1, 2, 4]), "s": st.sampled_from([512, 2048]), "tp": st.sampled_from([1, 2, 4, 8])}


@given(**SIZES)
@settings(max_examples=25, deadline=None)
def test_activations_of_a_gpt_layer_are_those_of_korthikanti(b: int, s: int, tp: int) -> None:
    """Equations 1 to 3 and 5 of arXiv 2205.05198, in bytes a layer and rank."""
    h, a = 6144, 64
    for parallel in (False, True):
        cut = Cut(
            micro_batch=b, seq_length=s, tp=tp, sequence_parallel=parallel, attention="standard", dtype="fp16",
            dropout=True,
        )  # fmt: skip
        layer = operators(gpt(h, a), cut)
        sbh, outside = s * b * h, 10 / tp if parallel else 10
        everything = sum(one.saved_bytes for one in layer)
        assert everything == pytest.approx(sbh * (outside + 24 / tp + 5 * a * s / (h * tp)))
        kept = Recompute().saved_bytes(layer, 0.0, 0)
        assert kept == everything
        selective = Selective().saved_bytes(layer, 0.0, 0)
        assert selective == pytest.approx(sbh * (outside + 24 / tp))
        assert Full().saved_bytes(layer, 2.0 * sbh, 0) == 2.0 * sbh


PARALLEL = {"parallel_block": True, "norms_per_layer": 1}
BLOCKS = st.sampled_from([{}, PARALLEL, {"parallel_block": True}])


@given(**SIZES, gated=st.booleans(), block=BLOCKS)
@settings(max_examples=25, deadline=None)
def test_backward_multiplies_twice_as_much_as_forward(
    b: int, s: int, tp: int, gated: bool, block: dict[str, Any]
) -> None:
    cut = Cut(micro_batch=b, seq_length=s, tp=tp, attention="standard")
    for one in operators(gpt(2048, 16, gated=gated, **block), cut):
        if one.part in ("matrix", "attention_core"):
            products = [op.flop for op in one.forward if hasattr(op, "weight_dtype")]
            back = [op.flop for op in (*one.backward_input, *one.backward_weight) if hasattr(op, "weight_dtype")]
            assert sum(back) == pytest.approx(2 * sum(products))


@given(**SIZES)
@settings(max_examples=20, deadline=None)
def test_tensor_parallel_ranks_share_the_arithmetic_out(b: int, s: int, tp: int) -> None:
    def flop(ranks: int) -> float:
        layer = operators(gpt(2048, 16), Cut(micro_batch=b, seq_length=s, tp=ranks, attention="standard"))
        return sum(float(op.flop) for one in layer for op in one.forward if hasattr(op, "weight_dtype"))

    assert tp * flop(tp) == pytest.approx(flop(1))


def test_sequence_parallelism_exchanges_as_many_bytes_as_all_reduces() -> None:
    """Section 4.2.2: an all-reduce is a reduce-scatter and an all-gather; forward has two, or two of each."""

    def forward(parallel: bool) -> list[Collective]:
        cut = Cut(micro_batch=4, seq_length=2048, tp=8, sequence_parallel=parallel)
        layer = operators(gpt(6144, 64), cut)
        found = [one.forward_before for one in layer] + [one.forward_after for one in layer]
        return [collective for collective in found if collective is not None]

    plain, divided = forward(False), forward(True)
    assert [one.kind for one in plain] == ["all_reduce"] * 2
    assert sorted(one.kind for one in divided) == ["all_gather"] * 2 + ["reduce_scatter"] * 2
    assert {one.payload_bytes for one in (*plain, *divided)} == {4 * 2048 * 6144 * 2}


@given(**SIZES, gated=st.booleans(), block=BLOCKS)
@settings(max_examples=25, deadline=None)
def test_a_parallel_block_multiplies_as_much_and_exchanges_half(
    b: int, s: int, tp: int, gated: bool, block: dict[str, Any]
) -> None:
    cut = Cut(micro_batch=b, seq_length=s, tp=tp, sequence_parallel=True)
    serial, parallel = (operators(gpt(2048, 16, gated=gated, **one), cut) for one in ({}, PARALLEL | block))

    def flop(layer: tuple[TrainingOperator, ...]) -> float:
        return sum(float(op.flop) for one in layer for op in one.forward if hasattr(op, "weight_dtype"))

    def sent(layer: tuple[TrainingOperator, ...], *places: str) -> float:
        found = [getattr(one, place) for one in layer for place in places]
        return sum(one.payload_bytes for one in found if one is not None)

    assert flop(parallel) == pytest.approx(flop(serial))
    assert sum(one.saved_bytes for one in parallel) < sum(one.saved_bytes for one in serial)
    for places in (("forward_before", "beside_input", "beside_weight"), ("forward_after", "backward_before")):
        assert sent(parallel, *places) == pytest.approx(sent(serial, *places) / 2)


def test_one_rank_exchanges_nothing() -> None:
    for one in operators(gpt(2048, 16), Cut(micro_batch=1, seq_length=512)):
        assert not any(
            (one.forward_before, one.forward_after, one.backward_before, one.beside_input, one.beside_weight)
        )


def test_full_recomputation_of_some_layers_keeps_the_others_whole() -> None:
    layer = operators(gpt(2048, 16), Cut(micro_batch=1, seq_length=512))
    some = Full(num_layers=2)
    assert some.again(layer, 1) == layer
    assert some.again(layer, 2) == ()
    assert some.saved_bytes(layer, 1.0, 2) == sum(one.saved_bytes for one in layer)
