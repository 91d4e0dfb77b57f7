"""What a framework does not fuse, or not divide, costs passes, exchanges and memory that can be counted."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.ops import Elementwise, Gemm
from workloads.models.catalog import model
from workloads.training.cut import Cut, Kernels
from workloads.training.ends import head_operators, loss_working_bytes
from workloads.training.layer import layer_operators
from workloads.training.operator import TrainingOperator

LLAMA = model("llama-13b")
VOCABULARY = 128_000


def cut(**keys: Any) -> Cut:
    given: dict[str, Any] = {"micro_batch": 2, "seq_length": 2048, "tp": 4, "attention": "standard"}
    return Cut(**(given | keys))


def loss(kernels: Kernels, **keys: Any) -> TrainingOperator:
    return head_operators(LLAMA, cut(**keys), kernels, vocabulary=VOCABULARY)[-1]


def layer(kernels: Kernels, **keys: Any) -> dict[str, TrainingOperator]:
    return {one.name: one for one in layer_operators(LLAMA, LLAMA.groups[0], cut(**keys), kernels)}


def moved_bytes(operator: TrainingOperator) -> float:
    ops = (*operator.forward, *operator.backward_input)
    return sum(float(op.moved_bytes) for op in ops if isinstance(op, Elementwise))


def test_a_loss_over_the_whole_vocabulary_gathers_the_logits_and_keeps_them_on_every_rank() -> None:
    divided, whole = loss(Kernels()), loss(Kernels(parallel_loss=False))
    logits = 2 * 2048 * VOCABULARY
    assert divided.forward_before is None
    assert whole.forward_before is not None
    assert whole.forward_before.payload_bytes == logits * 2.0
    assert whole.saved_bytes == pytest.approx(4 * divided.saved_bytes)
    assert whole.forward_after is None


def test_a_loss_without_tensor_parallelism_is_whole_either_way() -> None:
    one = cut(tp=1)
    whole = loss_working_bytes(one, Kernels(parallel_loss=False), vocabulary=VOCABULARY)
    assert loss(Kernels(parallel_loss=False), tp=1) == loss(Kernels(), tp=1)
    assert whole == 2 * 2048 * VOCABULARY * (2.0 + 3 * 4.0)


def test_a_divided_loss_needs_less_room_the_more_ranks_share_it() -> None:
    needed = [loss_working_bytes(cut(tp=tp), Kernels(), vocabulary=VOCABULARY) for tp in (1, 2, 4)]
    assert needed == pytest.approx([needed[0], needed[0] / 2, needed[0] / 4])
    alike = [loss_working_bytes(cut(tp=tp), Kernels(parallel_loss=False), vocabulary=VOCABULARY) for tp in (1, 2, 4)]
    assert len(set(alike)) == 1


def test_a_gate_apart_computes_the_same_exchanges_once_more_and_keeps_its_input_once() -> None:
    fused, apart = layer(Kernels()), layer(Kernels(fused_gate=False))
    assert "gate_proj" in apart
    assert "gate_proj" not in fused

    def flop(found: dict[str, TrainingOperator]) -> float:
        ops = [op for one in found.values() for op in one.forward if isinstance(op, Gemm)]
        return sum(float(op.flop) for op in ops)

    def exchanged(found: dict[str, TrainingOperator]) -> float:
        return sum(float(one.beside_weight.payload_bytes) for one in found.values() if one.beside_weight)

    assert flop(apart) == pytest.approx(flop(fused))
    assert exchanged(apart) == pytest.approx(1.5 * exchanged(fused))  # of the projections before attention, and two
    assert sum(one.saved_bytes for one in apart.values()) == sum(one.saved_bytes for one in fused.values())


def test_a_softmax_in_one_kernel_falls_apart_beyond_the_keys_it_takes() -> None:
    short = Kernels(fused_softmax_keys=2048)
    assert layer(short)["attention"] == layer(Kernels())["attention"]
    apart = layer(Kernels(fused_softmax=False), seq_length=4096)["attention"]
    assert layer(short, seq_length=4096)["attention"] == apart
    fused = layer(Kernels(), seq_length=4096)["attention"]
    assert moved_bytes(apart) > 5 * moved_bytes(fused)
    assert apart.saved_bytes > fused.saved_bytes
    assert apart.input_bytes == fused.input_bytes


def test_a_norm_of_pytorchs_own_operators_makes_sixty_four_passes_where_a_fused_one_makes_seven() -> None:
    fused, apart = layer(Kernels())["mlp_norm"], layer(Kernels(fused_norm=False))["mlp_norm"]
    one_pass = 2 * 2048 * LLAMA.hidden_size * 2.0
    assert moved_bytes(fused) / one_pass == pytest.approx(2 + 5 + 3)
    assert moved_bytes(apart) / one_pass == pytest.approx(18 + 46 + 3)
