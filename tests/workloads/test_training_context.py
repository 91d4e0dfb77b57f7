from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from hardware_models.ops import AttentionTraining
from workloads.models.catalog import model
from workloads.training.context import CONTEXT, AllGather, ContextParallel, ContextShare, Ring, TokenRing, Ulysses
from workloads.training.cut import Cut, Kernels
from workloads.training.layer import layer_operators
from workloads.training.operator import ContextStep, TrainingOp

SCHEMES = st.sampled_from([Ring(), TokenRing(), AllGather(), Ulysses()])
SIZES = {
    "cp": st.sampled_from([2, 4, 8]),
    "chunk": st.sampled_from([128, 256]),
    "batch": st.sampled_from([1, 3]),
    "groups": st.sampled_from([1, 4]),
    "backward": st.booleans(),
}


def share(cp: int, chunk: int = 128, batch: int = 1, groups: int = 1) -> ContextShare:
    cut = Cut(micro_batch=batch, seq_length=2 * cp * chunk, cp=cp)
    return ContextShare(cut=cut, heads=8 * groups, kv_heads=8, qk_dim=64, v_dim=64)


def steps(scheme: ContextParallel, one: ContextShare, backward: bool) -> tuple[ContextStep, ...]:
    return scheme.backward(one) if backward else scheme.forward(one)


def scores(block: tuple[TrainingOp, ...]) -> float:
    kernels = [op for op in block if isinstance(op, AttentionTraining)]
    return float(sum(op.batch * op.heads * op.visible for op in kernels))


@given(scheme=SCHEMES, **SIZES)
@settings(max_examples=40, deadline=None)
def test_ranks_together_compute_every_score_of_the_causal_half_once_and_each_as_many(
    scheme: ContextParallel, cp: int, chunk: int, batch: int, groups: int, backward: bool
) -> None:
    one = share(cp, chunk, batch, groups)
    whole = batch * one.heads * one.cut.seq_length**2 / 2
    for step in steps(scheme, one, backward):
        assert len({scores(block) for block in step.blocks}) <= 1
    mine = sum(scores(step.blocks[0]) for step in steps(scheme, one, backward) if step.blocks)
    assert mine * cp == pytest.approx(whole)


def test_without_balance_the_last_rank_computes_nearly_twice_as_much() -> None:
    one = share(8)
    mine = sum(scores(step.blocks[0]) for step in Ring(balanced=False).forward(one))
    assert mine * 8 / (one.heads * one.cut.seq_length**2 / 2) == pytest.approx(2 - 1 / 8)


@given(**SIZES)
@settings(max_examples=20, deadline=None)
def test_keys_go_round_the_ring_once_and_backward_with_their_gradients(
    cp: int, chunk: int, batch: int, groups: int, backward: bool
) -> None:
    one = share(cp, chunk, batch, groups)
    sent = sum(sum(step.sends_bytes) for step in steps(Ring(), one, backward))
    assert sent == pytest.approx((cp - 1) * one.key_bytes * (2 if backward else 1))
    assert one.key_bytes == 2 * batch * 2 * chunk * 8 * (64 + 64)


@given(**SIZES)
@settings(max_examples=20, deadline=None)
def test_token_ring_sends_queries_on_and_every_visited_rank_sends_its_output_home(
    cp: int, chunk: int, batch: int, groups: int, backward: bool
) -> None:
    one = share(cp, chunk, batch, groups)
    there, back = one.query_bytes, one.output_bytes + one.row_bytes
    if backward:
        there, back = one.query_bytes + one.output_bytes + 2 * one.row_bytes, one.query_bytes
    sent = sum(sum(step.sends_bytes) for step in steps(TokenRing(), one, backward))
    assert sent == pytest.approx((cp - 1) * (there + back))


def test_token_ring_moves_fewer_bytes_than_a_ring_only_without_grouped_queries() -> None:
    """Forward, a step: queries one way against keys and values, of which a group of queries shares one."""
    for groups, fewer in ((1, True), (4, False)):
        one = share(4, groups=groups)
        assert (one.query_bytes < one.key_bytes) is fewer


@given(**SIZES)
@settings(max_examples=20, deadline=None)
def test_ulysses_exchanges_queries_keys_and_values_one_way_and_outputs_the_other(
    cp: int, chunk: int, batch: int, groups: int, backward: bool
) -> None:
    one = share(cp, chunk, batch, groups)
    made = steps(Ulysses(), one, backward)
    exchanges = [step.exchange for step in made if step.exchange is not None]
    assert all(exchange.kind == "all_to_all" and exchange.ranks == cp for exchange in exchanges)
    total = one.query_bytes + one.key_bytes + one.output_bytes
    assert sum(float(exchange.payload_bytes) for exchange in exchanges) == pytest.approx(total)


def test_all_gather_scatters_as_many_gradients_as_it_gathers() -> None:
    one = share(4)
    (forward,) = AllGather().forward(one)
    gathered, scattered = AllGather().backward(one)
    assert forward.exchange == gathered.exchange
    assert scattered.exchange is not None
    assert gathered.exchange is not None
    assert (gathered.exchange.kind, scattered.exchange.kind) == ("all_gather", "reduce_scatter")
    assert scattered.exchange.payload_bytes == gathered.exchange.payload_bytes == 4 * one.key_bytes


@pytest.mark.parametrize("name", sorted(CONTEXT))
def test_activations_of_a_layer_are_divided_over_the_ranks(name: str) -> None:
    llama = model("llama-3.1-8b")
    alone = Cut(micro_batch=1, seq_length=4096)
    shared = replace(alone, cp=8, context=CONTEXT[name]())
    kept = [
        sum(one.saved_bytes for one in layer_operators(llama, llama.groups[0], cut, Kernels()))
        for cut in (alone, shared)
    ]
    assert kept[1] == pytest.approx(kept[0] / 8)


@pytest.mark.parametrize(
    ("scheme", "cut", "words"),
    [
        (Ulysses(), Cut(micro_batch=1, seq_length=4096, cp=16), "8 KV heads"),
        (Ring(), Cut(micro_batch=1, seq_length=4096, cp=8, attention="standard"), "flash2"),
        (Ring(), Cut(micro_batch=1, seq_length=1000, cp=8), "multiple of 16"),
        (TokenRing(balanced=False), Cut(micro_batch=1, seq_length=1001, cp=8), "multiple of 8"),
        (AllGather(), Cut(micro_batch=1, seq_length=1000, cp=8), "multiple of 16"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_one_sentence(scheme: ContextParallel, cut: Cut, words: str) -> None:
    llama = model("llama-3.1-8b")
    with pytest.raises(ImpossibleError, match=words):
        layer_operators(llama, llama.groups[0], replace(cut, context=scheme), Kernels())
