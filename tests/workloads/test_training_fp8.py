"""Matrix products in fp8: which are, what they cost beside, and what they keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.ops import Elementwise, Gemm
from workloads.models.catalog import model as load_model
from workloads.training.cut import Cut, Kernels
from workloads.training.ends import head_operators
from workloads.training.layer import layer_operators
from workloads.training.operator import Repeated, TrainingOperator
from workloads.training.precision import FP8_RECIPES

MODEL = load_model("llama-3-8b")
H100 = Device(catalog.gpu("h100-sxm"))
RECIPES = st.sampled_from(sorted(FP8_RECIPES))


def operators(recipe: str | None = None, tp: int = 1, model: str = "llama-3-8b") -> list[TrainingOperator]:
    fp8 = None if recipe is None else FP8_RECIPES[recipe]
    cut = Cut(micro_batch=1, seq_length=4096, tp=tp, sequence_parallel=tp > 1, fp8=fp8)
    loaded = load_model(model)
    head = head_operators(loaded, cut, Kernels(), vocabulary=128_256)
    return [*layer_operators(loaded, loaded.groups[-1], cut, Kernels()), *head]


def gemms(one: TrainingOperator) -> list[Gemm]:
    ops = [*one.forward, *one.backward_input, *one.backward_weight]
    return [inner for op in ops if isinstance(inner := op.op if isinstance(op, Repeated) else op, Gemm)]


def test_every_product_of_a_layer_is_in_fp8_but_router_and_head_are_not() -> None:
    for one in operators("current", model="qwen3-30b-a3b"):
        formats = {gemm.dtype for gemm in gemms(one)}
        assert formats <= ({"bf16"} if one.name in ("router", "lm_head") else {"fp8"})


@given(recipe=RECIPES, tp=st.sampled_from([1, 2, 8]))
@settings(max_examples=12, deadline=None)
def test_products_multiply_as_much_in_fp8_and_keep_about_half(recipe: str, tp: int) -> None:
    for narrow, wide in zip(operators(recipe, tp), operators(None, tp), strict=True):
        assert sum(gemm.flop for gemm in gemms(narrow)) == sum(gemm.flop for gemm in gemms(wide))
        if narrow.part == "matrix" and narrow.name != "lm_head":
            assert narrow.saved_bytes == pytest.approx(wide.saved_bytes / 2, rel=0.04)


@given(recipe=RECIPES)
@settings(max_examples=3, deadline=None)
def test_operands_are_turned_to_fp8_in_passes_of_their_own(recipe: str) -> None:
    def passes(layer: list[TrainingOperator]) -> float:
        ops = [op for one in layer for op in (*one.forward, *one.backward_input, *one.backward_weight)]
        return sum(float(op.moved_bytes) for op in ops if isinstance(op, Elementwise))

    assert passes(operators(recipe)) > passes(operators())


def test_ranks_gather_inputs_in_fp8_and_add_outputs_up_in_16_bits() -> None:
    narrow, wide = ({one.name: one for one in operators(recipe, 8)} for recipe in ("delayed", None))
    for name in ("qkv_proj", "up_proj"):
        before, plain = narrow[name].forward_before, wide[name].forward_before
        assert before is not None
        assert plain is not None
        assert before.payload_bytes == plain.payload_bytes / 2
        assert narrow[name].beside_weight == wide[name].beside_weight
    assert narrow["down_proj"].forward_after == wide["down_proj"].forward_after


@given(m=st.integers(16, 256), n=st.integers(16, 128), k=st.integers(16, 128))
@settings(max_examples=60, deadline=None)
def test_large_products_are_never_slower_in_fp8(m: int, n: int, k: int) -> None:
    """Operands in fp8 already; sizes of 2,048 and more, in tiles of 128."""

    def seconds(dtype: str) -> float:
        gemm = Gemm(m=128.0 * m, n=128.0 * n, k=128.0 * k, dtype=dtype, weight_dtype=dtype, quantised=dtype == "fp8")
        return float(H100.price(gemm).seconds)

    assert seconds("fp8") <= seconds("bf16")


def test_products_of_operands_that_are_turned_already_cost_no_rounding() -> None:
    rows = np.array([2048.0, 8192.0])
    ready, apart = (
        H100.price(Gemm(m=rows, n=4096.0, k=4096.0, dtype="fp8", weight_dtype="fp8", quantised=quantised))
        for quantised in (True, False)
    )
    assert (ready.seconds < apart.seconds).all()
    assert (ready.compute_s == apart.compute_s).all()
