"""What is planned: points that the schema takes, in an order that is worth a cut."""

from collections import Counter

import pytest

from calibration.measure.plans import PLANS, plan
from calibration.measure.plans.models import shape_of
from calibration.measure.plans.target import PlanTarget, grid
from calibration.measure.point import Point
from calibration.measurement_kinds import KINDS, cell

H200 = PlanTarget(is_gpu=True, sm_count=132, gpus=1, threads=16)
PAIR = PlanTarget(is_gpu=True, sm_count=132, gpus=2, threads=16, ranks=(2,), backend="nccl", link="scale-up")
CPU = PlanTarget(is_gpu=False, threads=2, ranks=(2,))
TARGETS = pytest.mark.parametrize("target", [H200, PAIR, CPU], ids=["gpu", "pair", "cpu"])


@TARGETS
def test_every_planned_value_is_one_the_schema_takes(target: PlanTarget) -> None:
    for point in plan(target):
        columns = KINDS[point.kind].keys
        assert set(point.values) == {column.name for column in columns}, point
        for column in columns:
            column.parse(cell(point.values[column.name]))


@TARGETS
def test_points_are_planned_once_and_coarse_before_fine(target: PlanTarget) -> None:
    points = plan(target)
    assert len({point.key for point in points}) == len(points)
    levels = [point.level for point in points]
    assert levels == sorted(levels)


def test_a_gpu_gets_every_kind_and_a_single_one_no_collectives() -> None:
    assert {point.kind for point in plan(PAIR)} == set(KINDS) == set(PLANS)
    assert {point.kind for point in plan(H200)} == set(KINDS) - {"collective"}


def test_kinds_can_be_chosen() -> None:
    assert {point.kind for point in plan(H200, ("gemm", "power"))} == {"gemm", "power"}


def test_plans_are_the_same_each_time() -> None:
    assert [point.key for point in plan(H200)] == [point.key for point in plan(H200)]


def test_products_cover_skinny_edges_waves_dtypes_and_shapes_of_no_model() -> None:
    points = [point for point in plan(H200) if point.kind == "gemm"]
    bf16 = [point for point in points if point.text("dtype") == "bf16"]
    assert set(range(1, 65)) - {point.count("m") for point in bf16} < set(range(10, 63))
    assert {63, 64, 65, 127, 128, 129, 255, 256, 257} <= {point.count("m") for point in bf16}
    assert {point.text("dtype") for point in points} == {"bf16", "fp16", "fp8", "int8", "tf32"}
    wave = 132 // (4096 // 128) * 128  # rows of tiles of 128 x 128 that one wave holds
    assert {wave, wave + 1, wave + 128} <= {point.count("m") for point in bf16 if point.count("n") == 4096}
    odd = [point for point in bf16 if point.count("n") % 128 and point.count("k") % 128]
    assert len(odd) > 50


def test_wave_edges_follow_the_number_of_multiprocessors() -> None:
    def edges(sm_count: int) -> set[tuple[str, ...]]:
        return {point.key for point in plan(PlanTarget(is_gpu=True, sm_count=sm_count), ("gemm",))}

    assert edges(108) != edges(132)


def test_attention_covers_chunks_skew_windows_and_head_ratios() -> None:
    points = plan(H200)
    prefill = [point for point in points if point.kind == "attention_prefill"]
    decode = [point for point in points if point.kind == "attention_decode"]
    assert any(point.count("past_tokens") > 0 and point.level == 0 for point in prefill)
    assert any(float(point.values["skew"]) > 0 and point.level == 0 for point in decode)
    for group in (prefill, decode):
        assert any(point.count("window") for point in group)
        assert {1, 4, 5, 8} <= {point.count("heads") // point.count("kv_heads") for point in group}


def test_the_coarse_grid_is_a_small_part_of_all() -> None:
    counts = Counter(point.level for point in plan(H200))
    assert 100 < counts[0] < 0.2 * sum(counts.values())


def test_shapes_are_those_of_the_models() -> None:
    llama = shape_of("llama-3-8b")
    assert llama.projections(1) == [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)]
    assert shape_of("llama-3-70b").projections(8) == [(1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584)]
    assert (shape_of("mixtral-8x7b").experts, shape_of("mixtral-8x7b").top_k) == (8, 2)
    assert shape_of("mixtral-8x7b").projections(1) == [(6144, 4096), (4096, 4096)]
    assert (shape_of("qwen3-30b-a3b").intermediate, shape_of("deepseek-v3").experts) == (768, 256)


def test_a_grid_is_the_product_of_its_axes() -> None:
    points = list(grid("host", 1, name=("a", "b"), count=(1, 2)))
    assert [tuple(point.values.values()) for point in points] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert all(isinstance(point, Point) and point.level == 1 for point in points)
