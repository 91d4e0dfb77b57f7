"""Parameters, KV cache, weight bytes and floating-point operations against published figures and each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.ops import Gemm, GroupedGemm
from workloads.models.architecture import AttentionSpec, DenseMlp, LatentAttentionSpec, ModelArchitecture
from workloads.models.catalog import model, names
from workloads.models.counts import (
    active_matmul_parameters,
    active_parameters,
    forward_flop,
    kv_bytes_per_token,
    layer_parameters,
    parameters,
    visible_pairs,
    weight_bytes,
)
from workloads.models.operators import Dtypes, LayerRange, Operator, head_operators, split_layers, token_operators

BF16 = Dtypes(weight="bf16", activation="bf16", kv_cache="bf16")

# as the published implementations count them (a tied table once)
PUBLISHED = {
    "bloom-176b": 176_247_271_424,
    "codellama-34b": 33_743_970_304,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    # 671,026,404,352 and the routing bias of 256 experts in 58 layers; the multi-token-prediction layer is left out
    "deepseek-v3": 671_026_419_200,
    # published files of the Falcons hold the tied table twice: 65,024 x hidden_size more
    "falcon-7b": 6_921_720_704,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 178_557_088_768,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-27b": 27_009_346_304,  # 27,432,406,640 with the vision tower
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-65b": 65_285_660_672,
    "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "opt-1.3b": 1_315_758_080,
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
    "opt-30b": 29_974_540_288,
    "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "yi-6b": 6_061_035_520,
    "yi-34b": 34_388_917_248,
}

# billions, as the names and papers of the others round them
ROUNDED = {
    "gpt3-175b": (174.6, 0.01),
    "opt-66b": (65.7, 0.05),
    "opt-175b": (174.6, 0.01),
    "phi-mini-moe": (7.6, 0.05),
    "qwen-72b": (72.3, 0.05),
    "qwen2-57b-a14b": (57.4, 0.05),
    "internlm-20b": (20.1, 0.05),
}

# billions; gpt-oss counts its active parameters without the input embedding (201,088 x 2,880)
ACTIVE = {
    "mixtral-8x7b": (12.9, 0.05),
    "mixtral-8x22b": (39.1, 0.1),
    "deepseek-v2": (21.0, 0.5),
    "deepseek-v3": (37.0, 0.6),
    "qwen3-30b-a3b": (3.3, 0.06),
    "qwen3-235b-a22b": (22.0, 0.3),
    "qwen2-57b-a14b": (14.0, 0.5),
    "phi-mini-moe": (2.4, 0.05),
    "gpt-oss-20b": (3.61 + 0.579, 0.01),
    "gpt-oss-120b": (5.13 + 0.579, 0.01),
}


def every_layer(architecture: ModelArchitecture) -> LayerRange:
    return LayerRange(0, architecture.num_layers, architecture.num_layers)


def products(operators: list[Operator]) -> list[tuple[float, Gemm | GroupedGemm]]:
    return [(part.count, part.op) for part in operators if isinstance(part.op, Gemm | GroupedGemm)]


def product_flop(operators: list[Operator]) -> float:
    return sum(float(count * op.flop) for count, op in products(operators))


def product_elements(operators: list[Operator]) -> float:
    return sum(
        count * op.n * op.k * (op.experts if isinstance(op, GroupedGemm) else 1) for count, op in products(operators)
    )


def is_dense_attention(architecture: ModelArchitecture) -> bool:
    return all(
        isinstance(group.attention, AttentionSpec) and isinstance(group.mlp, DenseMlp) for group in architecture.groups
    )


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_equal_the_published_count(name: str) -> None:
    assert parameters(model(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(ROUNDED))
def test_parameters_round_to_the_published_billions(name: str) -> None:
    billions, tolerance = ROUNDED[name]
    assert parameters(model(name)) / 1e9 == pytest.approx(billions, abs=tolerance)


@pytest.mark.parametrize("name", sorted(ACTIVE))
def test_active_parameters_of_mixtures_round_to_the_published_billions(name: str) -> None:
    billions, tolerance = ACTIVE[name]
    assert active_parameters(model(name)) / 1e9 == pytest.approx(billions, abs=tolerance)


def test_mixtral_activates_two_experts_of_eight() -> None:
    mixtral = model("mixtral-8x7b")
    assert parameters(mixtral) - active_parameters(mixtral) == 32 * 6 * 3 * 4096 * 14336


@pytest.mark.parametrize("name", names())
def test_active_parameters_are_fewer_exactly_in_mixtures(name: str) -> None:
    architecture = model(name)
    dense = all(isinstance(group.mlp, DenseMlp) for group in architecture.groups)
    assert (active_parameters(architecture) == parameters(architecture)) == dense


def test_layer_parameters_of_llama_2_7b_are_its_matrices_and_two_norms() -> None:
    llama = model("llama-2-7b")
    assert layer_parameters(llama, llama.groups[0]) == 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096


@pytest.mark.parametrize(
    ("name", "dtype", "kv_bytes"),
    [
        ("llama-2-70b", "fp16", 327_680),
        ("llama-2-70b", "fp8", 163_840),
        ("llama-3-8b", "bf16", 131_072),
        ("opt-13b", "fp16", 819_200),
        ("deepseek-v3", "bf16", 61 * (512 + 64) * 2),  # 70,272: arXiv 2505.09343, table 1
        ("falcon-7b", "bf16", 32 * 2 * 64 * 2),
        ("llama-3.1-405b", "bf16", 516_096),  # the same table
        ("qwen2.5-72b", "bf16", 327_680),  # the same table
    ],
)
def test_kv_bytes_of_a_token(name: str, dtype: str, kv_bytes: int) -> None:
    assert kv_bytes_per_token(model(name), dtype) == kv_bytes


def test_kv_heads_are_divided_until_each_rank_has_one() -> None:
    llama = model("llama-3-8b")
    per_rank = [kv_bytes_per_token(llama, "bf16", tp=tp) * 8 / 131_072 for tp in (1, 2, 8, 16, 32)]
    assert per_rank == [8, 4, 1, 1, 1]


def test_latent_cache_is_the_same_on_every_rank() -> None:
    assert kv_bytes_per_token(model("deepseek-v3"), "bf16", tp=8) == 70_272


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages_sum_to_the_whole_model(name: str, stages: int) -> None:
    architecture = model(name)
    ranges = split_layers(architecture.num_layers, min(stages, architecture.num_layers))
    assert ranges[0].start == 0
    assert ranges[-1].stop == architecture.num_layers
    assert all(left.stop == right.start for left, right in pairwise(ranges))
    second_table = 2.0 * architecture.vocab_size * architecture.hidden_size if architecture.tie_word_embeddings else 0.0
    staged = sum(weight_bytes(architecture, "bf16", layers=stage) for stage in ranges)
    assert staged == pytest.approx(weight_bytes(architecture, "bf16") + second_table, rel=1e-12)
    cached = sum(kv_bytes_per_token(architecture, "bf16", layers=stage) for stage in ranges)
    assert cached == pytest.approx(kv_bytes_per_token(architecture, "bf16"), rel=1e-12)


@pytest.mark.parametrize("name", names())
def test_sixteen_bit_weights_are_two_bytes_a_parameter(name: str) -> None:
    architecture = model(name)
    if not architecture.stored_dtypes:
        assert weight_bytes(architecture, "bf16") == 2 * parameters(architecture)


def test_eight_bit_weights_keep_embeddings_head_and_norms_in_sixteen() -> None:
    llama = model("llama-2-7b")
    kept = 2 * 32000 * 4096 + 65 * 4096
    assert weight_bytes(llama, "fp8") == parameters(llama) + kept
    assert weight_bytes(llama, "int4") == (parameters(llama) - kept) / 2 + 2 * kept


def test_wide_weights_are_wide_everywhere() -> None:
    assert weight_bytes(model("gpt2"), "fp32") == 4 * parameters(model("gpt2"))


def test_experts_stored_in_four_bits_stay_so() -> None:
    oss = model("gpt-oss-120b")
    experts = 36 * 128 * 3 * 2880 * 2880
    expected = experts * (0.5 + 1 / 32) + 2 * (parameters(oss) - experts)
    assert weight_bytes(oss, "bf16") == pytest.approx(expected, rel=1e-12)
    # the released checkpoint has 60.8 GiB (model card)
    assert weight_bytes(oss, "bf16") / 2**30 == pytest.approx(60.8, abs=0.1)


def test_a_rank_holds_replicated_norms_and_its_share_of_matrices() -> None:
    llama = model("llama-3.1-70b")
    norms = 161 * 8192
    assert weight_bytes(llama, "bf16", tp=8) == 2 * ((parameters(llama) - norms) / 8 + norms)


def test_kv_heads_are_repeated_when_ranks_exceed_them() -> None:
    llama = model("llama-3.1-70b")
    repeated = 80 * 2 * 8192 * 128 * 8  # keys and values of eight heads a second time
    on_all = 16 * weight_bytes(llama, "bf16", tp=16)
    assert on_all == 2 * (parameters(llama) + repeated + 15 * 161 * 8192)


def test_vocabulary_is_padded_to_the_ranks() -> None:
    gpt2 = model("gpt2")
    last = LayerRange(11, 12, 12)
    head = weight_bytes(gpt2, "bf16", tp=2, layers=last) - weight_bytes(
        gpt2, "bf16", tp=2, layers=LayerRange(10, 11, 12)
    )
    assert head == 2 * (25129 * 768 + 2 * 768)


@pytest.mark.parametrize("name", names())
def test_products_hold_all_matrices_of_the_model(name: str) -> None:
    architecture = model(name)
    elements = product_elements(token_operators(architecture, 7.0, 1, every_layer(architecture), BF16))
    elements += product_elements(head_operators(architecture, 1.0, 1, BF16))
    vectors = parameters(architecture) - elements
    if not architecture.tie_word_embeddings:  # the input table is no product
        vectors -= architecture.vocab_size * architecture.hidden_size
    # what is left are positions, norms, biases, sinks and shared-expert gates: a small share
    assert 0 < vectors < 0.004 * parameters(architecture) + architecture.learned_positions * architecture.hidden_size


@pytest.mark.parametrize("name", names())
def test_flop_of_products_are_two_per_active_element_and_token(name: str) -> None:
    architecture = model(name)
    tokens = 13.0
    flop = product_flop(token_operators(architecture, tokens, 1, every_layer(architecture), BF16))
    assert flop == pytest.approx(2 * active_matmul_parameters(architecture) * tokens, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in names() if is_dense_attention(model(name))])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_flop_of_products_over_ranks_sum_to_one_rank_alone(name: str, tp: int) -> None:
    architecture = model(name)
    for group in architecture.groups:
        assert isinstance(group.attention, AttentionSpec)
        if group.attention.kv_heads % tp or group.attention.heads % tp:
            pytest.skip("heads do not divide")
    layers = every_layer(architecture)
    alone = product_flop(token_operators(architecture, 5.0, 1, layers, BF16))
    assert tp * product_flop(token_operators(architecture, 5.0, tp, layers, BF16)) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("tp", [1, 2, 4, 16])
def test_weights_of_a_rank_are_those_its_products_read(name: str, tp: int) -> None:
    architecture = model(name)
    if architecture.groups[0].attention.heads % tp:
        pytest.skip("heads do not divide")
    if architecture.stored_dtypes:
        pytest.skip("experts are narrower")
    if architecture.num_layers == 2:
        pytest.skip("no layer is between the ends")
    middle = LayerRange(1, architecture.num_layers - 1, architecture.num_layers)
    elements = product_elements(token_operators(architecture, 5.0, tp, middle, BF16))
    held = weight_bytes(architecture, "bf16", tp=tp, layers=middle) / 2
    assert elements < held < 1.01 * elements


@given(
    new=st.integers(min_value=0, max_value=60),
    context=st.integers(min_value=0, max_value=60),
    window=st.integers(min_value=0, max_value=80),
)
def test_visible_pairs_equal_counting(new: int, context: int, window: int) -> None:
    counted = sum(
        query - key < window if window else True for query in range(context, context + new) for key in range(query + 1)
    )
    assert visible_pairs(float(new), float(context), window) == counted
    both = visible_pairs(np.array([float(new)] * 2), np.array([float(context)] * 2), window)
    assert np.array_equal(both, [counted, counted])


@given(
    first=st.integers(min_value=0, max_value=9000),
    second=st.integers(min_value=0, max_value=9000),
    context=st.integers(min_value=0, max_value=9000),
    name=st.sampled_from(["llama-3-8b", "mistral-7b", "gemma-2-9b", "deepseek-v2-lite", "gpt-oss-20b"]),
)
def test_two_chunks_cost_one_prompt_and_one_head_more(first: int, second: int, context: int, name: str) -> None:
    architecture = model(name)
    head = 2.0 * architecture.vocab_size * architecture.hidden_size
    whole = forward_flop(architecture, float(first + second), float(context))
    parts = forward_flop(architecture, float(first), float(context))
    parts += forward_flop(architecture, float(second), float(context + first))
    assert parts == pytest.approx(whole + head, rel=1e-9)


def test_forward_flop_of_a_llama_prompt_is_the_closed_form() -> None:
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    expected = 2 * matrices * 1000 + 2 * 32 * (1000 * 1001 / 2) * 2 * 4096 + 2 * 32000 * 4096
    assert forward_flop(model("llama-2-7b"), 1000.0, 0.0) == expected


def test_forward_flop_takes_arrays() -> None:
    new, context = np.array([1.0, 10.0, 5000.0]), np.array([7.0, 5000.0, 0.0])
    for name in ("llama-3-8b", "mistral-7b", "deepseek-v3"):
        together = forward_flop(model(name), new, context)
        alone = [forward_flop(model(name), float(n), float(c)) for n, c in zip(new, context, strict=True)]
        assert np.allclose(together, alone, rtol=1e-14)
        assert np.shape(forward_flop(model(name), 1.0, context)) == (3,)


def test_a_window_saves_attention_on_long_prompts_only() -> None:
    slid, seeing = model("mistral-7b"), model("llama-3-8b")
    body = {m: active_matmul_parameters(m) for m in (slid, seeing)}
    assert body[slid] == body[seeing]
    head = 2.0 * 4096 * (128_256 - 32_000)
    assert forward_flop(seeing, 4096.0, 0.0) - forward_flop(slid, 4096.0, 0.0) == head
    assert forward_flop(seeing, 8192.0, 0.0) - forward_flop(slid, 8192.0, 0.0) > head


def test_latent_attention_scores_with_expanded_heads() -> None:
    deepseek = model("deepseek-v2-lite")
    spec = deepseek.groups[0].attention
    assert isinstance(spec, LatentAttentionSpec)
    grown = forward_flop(deepseek, 1.0, 1001.0) - forward_flop(deepseek, 1.0, 1.0)
    assert grown == pytest.approx(2 * 1000 * 27 * 16 * (128 + 64 + 128))
