"""Layers with experts: what is computed and exchanged, over however many ranks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.ops import Gemm
from workloads.models.architecture import AttentionSpec, DenseMlp, LayerGroup, Mlp, ModelArchitecture, MoeMlp
from workloads.training.cut import Cut, Kernels
from workloads.training.expert_share import ExpertPasses, ExpertShare, busiest_of_learned, busiest_of_random
from workloads.training.layer import layer_operators
from workloads.training.operator import ExpertExchange, Repeated, TrainingOperator
from workloads.training.precision import FP8_RECIPES

HIDDEN, TOKENS = 2048, 4096
ATTENTION = AttentionSpec(heads=16, kv_heads=16, head_dim=128)
EXCHANGES = ("forward_before", "forward_after", "backward_before", "beside_input", "beside_weight")


def layer(mlp: Mlp, **cut: object) -> dict[str, TrainingOperator]:
    model = ModelArchitecture(
        name="mixture", model_type="test", hidden_size=HIDDEN, num_layers=1, vocab_size=32000,
        max_position_embeddings=4096, groups=(LayerGroup(layers=(0,), attention=ATTENTION, mlp=mlp),),
    )  # fmt: skip
    sizes = {"micro_batch": 1, "seq_length": TOKENS} | cut
    return {one.name: one for one in layer_operators(model, model.groups[0], Cut(**sizes), Kernels())}  # type: ignore[arg-type]


def mixture(experts: int = 64, top_k: int = 8, shared: int = 0, **more: int) -> MoeMlp:
    return MoeMlp(experts=experts, top_k=top_k, expert_intermediate_size=1024, shared_intermediate_size=shared, **more)


def products(one: TrainingOperator, pass_: str = "forward") -> float:
    ops = [op.op if isinstance(op, Repeated) else op for op in getattr(one, pass_)]
    counts = [op.count if isinstance(op, Repeated) else 1 for op in getattr(one, pass_)]
    return sum(float(op.flop) * n for op, n in zip(ops, counts, strict=True) if isinstance(op, Gemm))


@given(
    ep=st.sampled_from([1, 2, 4, 8, 64]), top_k=st.sampled_from([1, 2, 8]), tp=st.sampled_from([1, 2, 4]),
    shares=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_all_ranks_together_multiply_as_much_as_the_model_does(ep: int, top_k: int, tp: int, shares: bool) -> None:
    """Each of ep ranks has its own tokens, which tp ranks share: rows in are rows out, and none is computed twice."""
    etp = tp if shares else 1
    one = layer(mixture(top_k=top_k), tp=tp, sequence_parallel=tp > 1, experts=ExpertShare(ep=ep, etp=etp))
    of_a_rank = sum(products(one[name]) for name in ("experts_up_proj", "experts_down_proj"))
    assert of_a_rank * tp == pytest.approx(2.0 * TOKENS * top_k * 3 * HIDDEN * 1024)
    for name in ("experts_up_proj", "experts_down_proj"):
        assert products(one[name], "backward_input") == pytest.approx(products(one[name]))
        assert products(one[name], "backward_weight") == pytest.approx(products(one[name]))


@given(ep=st.sampled_from([2, 8, 64]), top_k=st.sampled_from([1, 2, 8]), tp=st.sampled_from([1, 2]))
@settings(max_examples=20, deadline=None)
def test_as_many_bytes_come_back_as_go_out_and_backward_as_forward(ep: int, top_k: int, tp: int) -> None:
    one = layer(mixture(top_k=top_k), tp=tp, sequence_parallel=tp > 1, experts=ExpertShare(ep=ep, etp=tp))
    found = [getattr(operator, field) for operator in one.values() for field in EXCHANGES]
    exchanges = [exchange for exchange in found if isinstance(exchange, ExpertExchange)]
    assert len(exchanges) == 4
    assert {exchange.payload_bytes for exchange in exchanges} == {TOKENS / tp * top_k * HIDDEN * 2}
    assert {exchange.ranks for exchange in exchanges} == {ep}


def test_a_rank_with_all_experts_exchanges_no_rows() -> None:
    one = layer(mixture())
    assert not any(isinstance(getattr(x, field), ExpertExchange) for x in one.values() for field in EXCHANGES)


def test_one_expert_that_every_token_visits_is_a_dense_mlp() -> None:
    dense = layer(DenseMlp(intermediate_size=1024))
    sole = layer(mixture(experts=1, top_k=1))
    for ours, theirs in (("experts_up_proj", "up_proj"), ("experts_down_proj", "down_proj")):
        for pass_ in ("forward", "backward_input", "backward_weight"):
            assert getattr(sole[ours], pass_) == getattr(dense[theirs], pass_)
        assert sole[ours].saved_bytes == dense[theirs].saved_bytes
    assert sole["experts_activation"].saved_bytes == dense["activation"].saved_bytes
    assert sole["experts_activation"].forward == dense["activation"].forward


def test_shared_experts_are_one_dense_mlp_beside_the_others() -> None:
    one = layer(mixture(shared=2048))
    assert products(one["shared_up_proj"]) == 2.0 * TOKENS * HIDDEN * 2 * 2048
    assert products(one["shared_down_proj"]) == 2.0 * TOKENS * HIDDEN * 2048


@given(servers=st.integers(1, 64), top_k=st.integers(1, 16), groups=st.sampled_from([1, 4, 8]), limit=st.integers(1, 8))
def test_a_token_visits_no_more_servers_than_experts_groups_or_servers(
    servers: int, top_k: int, groups: int, limit: int
) -> None:
    share = ExpertShare(ep=8 * servers, servers=servers, once_per_server=True)
    free = share.visited_servers(mixture(top_k=top_k))
    limited = share.visited_servers(mixture(top_k=top_k, groups=groups, groups_per_token=min(limit, groups)))
    assert 1.0 - 1e-9 <= free <= min(servers, top_k) + 1e-9
    assert 0.0 < limited <= free + 1e-9
    assert limited <= share.visited_ranks(mixture(top_k=top_k)) + 1e-9


def test_rows_sent_once_for_a_server_are_fewer_than_experts_and_leave_in_fp8_where_that_is_wanted() -> None:
    share = {"ep": 64, "servers": 8, "once_per_server": True}
    wide = layer(mixture(), experts=ExpertShare(**share))["dispatch"].forward_after  # type: ignore[arg-type]
    assert isinstance(wide, ExpertExchange)
    assert wide.across_bytes is not None
    assert wide.across_bytes < wide.payload_bytes < TOKENS * 8 * HIDDEN * 2
    assert wide.across_bytes == pytest.approx(TOKENS * 8 * (1 - (7 / 8) ** 8) * HIDDEN * 2)


APART = ExpertPasses(
    fused_router=False, fused_maps=False, counts_on_host=True, padded_rows=True, turned_apart=True, bias_apart=True
)


def work(operators: dict[str, TrainingOperator]) -> tuple[float, float, float]:
    """Arithmetic of products, bytes that move, and kernels, of all operators and passes."""
    flop = moved = kernels = 0.0
    for one in operators.values():
        for op in (*one.forward, *one.backward_input, *one.backward_weight):
            moved += op.moved_bytes
            kernels += op.count if isinstance(op, Repeated) else 1
        flop += sum(products(one, part) for part in ("forward", "backward_input", "backward_weight"))
    return flop, moved, kernels


@pytest.mark.parametrize("recipe", [None, *sorted(FP8_RECIPES)])
@pytest.mark.parametrize("dispatcher", ["alltoall", "flex"])
def test_passes_apart_multiply_as_much_move_more_and_are_more_kernels(recipe: str | None, dispatcher: str) -> None:
    share = ExpertShare(ep=8, once_per_server=dispatcher == "flex")
    spec, fp8 = replace(mixture(), expert_bias=True), None if recipe is None else FP8_RECIPES[recipe]
    fused = layer(spec, fp8=fp8, experts=share)
    apart = layer(spec, fp8=fp8, experts=replace(share, passes=APART))
    (flop, moved, kernels), (same, more, launches) = work(fused), work(apart)
    assert same == flop
    assert more > moved
    assert launches > kernels + 2 * (30 - 10)
    assert not any(one.host_waits for one in fused.values())
    assert apart["maps"].host_waits == (4 if dispatcher == "flex" else 1)
    rows = TOKENS * 8.0 * HIDDEN  # 28 bytes an element forward, 40 backward: each in 16 or in 32 bits
    assert sum(op.moved_bytes for op in apart["experts_bias"].forward) == pytest.approx(28 * rows)
    assert sum(op.moved_bytes for op in apart["experts_bias"].backward_input) == pytest.approx(40 * rows)
    assert ("experts_pad" in apart) == (recipe is not None)
    if recipe is not None:
        assert apart["experts_pad"].forward[0].moved_bytes == pytest.approx(4 * rows)


def test_turning_each_experts_rows_by_itself_moves_the_same_bytes_in_more_kernels() -> None:
    fp8, share = FP8_RECIPES["current"], ExpertShare(ep=8)
    whole, apart = (
        layer(mixture(), fp8=fp8, experts=replace(share, passes=ExpertPasses(turned_apart=each)))["experts_up_proj"]
        for each in (False, True)
    )
    turned = apart.forward[0]
    assert isinstance(turned, Repeated)
    assert turned.count == 3 * 64 / 8
    assert turned.moved_bytes == pytest.approx(whole.forward[0].moved_bytes)


def test_the_busiest_rank_has_as_many_rows_as_random_draws_give_it() -> None:
    draws, spec, ep = np.random.default_rng(0), mixture(experts=16, top_k=4), 8
    chosen = np.argsort(draws.random((200, 8 * 128, 16)), axis=2)[:, :, :4] // 2  # 200 layers of 8 ranks of 128 tokens
    loads = np.stack([(chosen == rank).sum(axis=(1, 2)) for rank in range(ep)])
    drawn = float(np.mean(loads.max(axis=0) / loads.mean(axis=0)))
    assert busiest_of_random(spec, 128, ep) == pytest.approx(drawn, abs=0.006)
    assert busiest_of_random(spec, 128, 1) == busiest_of_learned(spec, 1) == 1.0
    assert busiest_of_learned(spec, 16) > busiest_of_learned(spec, 4) > 1.0
