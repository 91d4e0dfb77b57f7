"""From config.json to an architecture, family by family, and the errors about keys."""

from __future__ import annotations

from typing import Any

import pytest

from hardware_models.errors import FleetcastError
from workloads.models.architecture import AttentionSpec, DenseMlp, LatentAttentionSpec, ModelArchitecture, MoeMlp
from workloads.models.counts import parameters
from workloads.models.hf_config import FAMILIES, architecture_from_config

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}


def read(model_type: str, **fields: Any) -> ModelArchitecture:
    return architecture_from_config({"model_type": model_type, **SIZES, **fields}, "config.json")


def problem(config: dict[str, Any]) -> str:
    with pytest.raises(FleetcastError) as caught:
        architecture_from_config(config, "config.json")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def attention(architecture: ModelArchitecture, layer: int = 0) -> AttentionSpec:
    spec = next(group.attention for group in architecture.groups if layer in group.layers)
    assert isinstance(spec, AttentionSpec)
    return spec


def mixture(architecture: ModelArchitecture) -> MoeMlp:
    return next(group.mlp for group in architecture.groups if isinstance(group.mlp, MoeMlp))


def windows(architecture: ModelArchitecture) -> list[int]:
    return [attention(architecture, layer).window for layer in range(architecture.num_layers)]


def test_all_families_are_read() -> None:
    assert sorted(FAMILIES) == [
        "bloom",
        "deepseek_v2",
        "deepseek_v3",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gpt2",
        "gpt_oss",
        "internlm",
        "internlm2",
        "llama",
        "mistral",
        "mixtral",
        "opt",
        "phi",
        "phi3",
        "phimoe",
        "qwen",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
    ]


def test_an_unknown_architecture_is_an_error_and_never_a_guess() -> None:
    text = problem({**SIZES, "model_type": "mistrall"})
    assert text.startswith("config.json: model_type = 'mistrall': unknown architecture; did you mean 'mistral'?")
    assert "accepted: bloom, deepseek_v2" in text
    assert "did you mean" not in problem({**SIZES, "model_type": "zzz"})
    assert problem({**SIZES, "model_type": 3}).startswith("config.json: model_type = 3: unknown architecture")
    assert problem(dict(SIZES)).startswith("config.json: missing key 'model_type' (accepted: bloom")


@pytest.mark.parametrize("key", sorted(SIZES))
def test_a_missing_key_is_named(key: str) -> None:
    config = {"model_type": "llama", **SIZES}
    del config[key]
    assert problem(config).startswith(f"config.json: missing key '{key}'")
    assert problem({**config, key: None}).startswith(f"config.json: missing key '{key}'")


@pytest.mark.parametrize("key", sorted(SIZES))
@pytest.mark.parametrize("value", [0, -1, 2.0, "64", True, [], {}])
def test_a_value_that_is_no_positive_integer_is_named(key: str, value: object) -> None:
    assert problem({"model_type": "llama", **SIZES, key: value}) == (
        f"config.json: {key} = {value!r}: must be a positive integer"
    )


def test_the_spelling_of_the_file_is_the_one_in_the_error() -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_layer": -2, "n_head": 4, "n_positions": 16, "vocab_size": 9}
    assert problem(config) == "config.json: n_layer = -2: must be a positive integer"
    del config["n_layer"]
    assert problem(config) == (
        "config.json: missing key 'num_hidden_layers' (also accepted: n_layer, n_layers, num_layers)"
    )


@pytest.mark.parametrize(
    ("model_type", "fields", "text"),
    [
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: must be at most 10,000"),
        ("llama", {"vocab_size": 10**12}, "vocab_size = 1000000000000: must be at most 2,147,483,647"),
        ("llama", {"attention_bias": 1}, "attention_bias = 1: must be true or false"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads = 3: must divide the 4 attention heads"),
        (
            "llama",
            {"num_attention_heads": 5},
            "num_attention_heads = 5: must divide hidden_size = 64 where no head_dim is given",
        ),
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 5}, "must not exceed the 4 experts of a layer"),
        ("qwen", {"intermediate_size": 127}, "intermediate_size = 127: must be even"),
        ("qwen3_moe", {**EXPERTS, "mlp_only_layers": 3}, "mlp_only_layers = 3: must be a list of layer numbers"),
        ("gemma2", {"layer_types": ["full_attention"]}, "must be a list of 6 names, one a layer"),
        (
            "gemma2",
            {"layer_types": ["linear_attention"] * 6},
            "layer_types = 'linear_attention': unknown kind of layer; accepted: full_attention, sliding_attention",
        ),
        ("gemma3", {}, "text_config = None: must be an object with the language model's fields"),
        ("deepseek_v3", {**EXPERTS, **LATENT, "attention_bias": True}, "biases in latent attention are not modelled"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm = True: norms of queries and keys are not modelled"),
        ("qwen3_moe", {}, "missing key 'num_experts' (also accepted: n_routed_experts, num_local_experts)"),
    ],
)
def test_what_cannot_be_modelled_is_refused(model_type: str, fields: dict[str, Any], text: str) -> None:
    message = problem({"model_type": model_type, **SIZES, **fields})
    assert message.startswith("config.json: ")
    assert text in message


def test_long_values_are_shortened_in_errors() -> None:
    assert len(problem({"model_type": "llama", **SIZES, "vocab_size": "x" * 10_000})) < 200


def test_llama_reads_grouped_heads_and_biases() -> None:
    plain = read("llama")
    assert attention(plain) == AttentionSpec(heads=4, kv_heads=4, head_dim=16)
    rich = read("llama", num_key_value_heads=2, head_dim=32, attention_bias=True, mlp_bias=True)
    assert attention(rich) == AttentionSpec(heads=4, kv_heads=2, head_dim=32, qkv_bias=True, output_bias=True)
    assert rich.groups[0].mlp == DenseMlp(intermediate_size=128, bias=True)


def test_mistral_slides_unless_null() -> None:
    assert read("mistral").window == 4096
    assert read("mistral", sliding_window=100).window == 100
    assert read("mistral", sliding_window=None).window == 0


def test_first_qwen_halves_its_intermediate_size() -> None:
    assert read("qwen").groups[0].mlp == DenseMlp(intermediate_size=64)
    assert attention(read("qwen")).qkv_bias


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_qwen_slides_from_a_layer_on_only_when_told(model_type: str) -> None:
    assert read(model_type, sliding_window=32).window == 0
    slid = read(model_type, sliding_window=32, use_sliding_window=True, max_window_layers=4)
    assert windows(slid) == [0, 0, 0, 0, 32, 32]


def test_qwen_2_and_3_differ_in_bias_and_norm() -> None:
    assert attention(read("qwen2")) == AttentionSpec(heads=4, kv_heads=4, head_dim=16, qkv_bias=True)
    assert attention(read("qwen3")) == AttentionSpec(heads=4, kv_heads=4, head_dim=16, qk_norm=True)


def test_qwen_mixtures_have_dense_layers_where_told() -> None:
    architecture = read("qwen3_moe", **EXPERTS, mlp_only_layers=[0], decoder_sparse_step=2)
    sparse = sorted(layer for group in architecture.groups if isinstance(group.mlp, MoeMlp) for layer in group.layers)
    assert sparse == [1, 3, 5]


def test_qwen2_mixture_has_a_gated_shared_expert() -> None:
    assert mixture(read("qwen2_moe", **EXPERTS, shared_expert_intermediate_size=48)) == MoeMlp(
        experts=8, top_k=2, expert_intermediate_size=32, shared_intermediate_size=48, shared_gate=True
    )


def test_a_dense_size_is_asked_for_only_where_a_layer_is_dense() -> None:
    config: dict[str, Any] = {"model_type": "qwen3_moe", **SIZES, **EXPERTS}
    del config["intermediate_size"]
    assert architecture_from_config(config, "config.json").num_layers == 6
    assert "missing key 'intermediate_size'" in problem({**config, "mlp_only_layers": [2]})


def test_deepseek_reads_latent_attention_and_dense_first_layers() -> None:
    architecture = read("deepseek_v3", **EXPERTS, **LATENT, n_shared_experts=2, first_k_dense_replace=2)
    spec = architecture.groups[0].attention
    assert isinstance(spec, LatentAttentionSpec)
    assert (spec.q_lora_rank, spec.kv_lora_rank) == (24, 16)
    assert architecture.groups[0].layers == (0, 1)
    assert mixture(architecture).shared_intermediate_size == 64
    assert mixture(architecture).router_bias
    second = read("deepseek_v2", **EXPERTS, **{**LATENT, "q_lora_rank": None}, moe_layer_freq=2)
    assert not mixture(second).router_bias
    assert [group.count for group in second.groups] == [3, 3]
    spec = second.groups[0].attention
    assert isinstance(spec, LatentAttentionSpec)
    assert spec.q_lora_rank == 0


def test_gemmas_slide_in_their_patterns() -> None:
    assert windows(read("gemma")) == [0] * 6
    assert windows(read("gemma2", sliding_window=8)) == [8, 0] * 3
    assert windows(read("gemma3_text", sliding_window=8, head_dim=16, num_key_value_heads=2)) == [8] * 5 + [0]
    explicit = read("gemma2", sliding_window=8, layer_types=["full_attention", "sliding_attention"] * 3)
    assert windows(explicit) == [0, 8] * 3


def test_gemma_3_with_vision_is_its_text_model_with_the_class_defaults() -> None:
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "sliding_window": 8}
    architecture = architecture_from_config({"model_type": "gemma3", "text_config": text}, "config.json")
    assert architecture.vocab_size == 262_208
    assert architecture.tie_word_embeddings
    assert attention(architecture).head_dim == 256
    assert architecture.norms_per_layer == 4


def test_gpt_oss_has_biases_sinks_and_packed_experts() -> None:
    experts = {"num_local_experts": 8, "experts_per_token": 2}
    architecture = read("gpt_oss", **experts, sliding_window=8, quantization_config={"quant_method": "mxfp4"})
    assert architecture.stored_dtypes == (("experts", "mxfp4"),)
    assert windows(architecture) == [8, 0] * 3
    assert attention(architecture).sinks
    assert mixture(architecture).expert_bias
    assert read("gpt_oss", **experts).stored_dtypes == ()


def test_falcon_has_three_kinds_of_decoder() -> None:
    multi_query = read("falcon")
    assert attention(multi_query).kv_heads == 1
    assert (multi_query.norms_per_layer, multi_query.parallel_block) == (1, True)
    newer = read("falcon", new_decoder_architecture=True, num_kv_heads=2)
    assert attention(newer).kv_heads == 2
    assert (newer.norms_per_layer, newer.parallel_block) == (2, True)
    assert read("falcon", new_decoder_architecture=True, num_ln_in_parallel_attn=1).norms_per_layer == 1
    serial = read("falcon", multi_query=False, parallel_attn=False, bias=True, alibi=True)
    assert attention(serial) == AttentionSpec(heads=4, kv_heads=4, head_dim=16, qkv_bias=True, output_bias=True)
    assert (serial.norms_per_layer, serial.parallel_block, serial.rotary) == (2, False, False)


def test_small_opt_projects_its_embedding_and_ends_without_a_norm() -> None:
    small = architecture_from_config(
        {
            "model_type": "opt",
            "hidden_size": 1024,
            "ffn_dim": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 512,
            "do_layer_norm_before": False,
        },
        "opt-350m",
    )
    assert not small.final_norm
    assert parameters(small) == 331_196_416  # OPT-350m as published


def test_biases_of_internlm_are_one_flag() -> None:
    assert attention(read("internlm2", bias=False)) == AttentionSpec(heads=4, kv_heads=4, head_dim=16)
    assert attention(read("internlm", bias=True)).output_bias


def test_phi_mixture_has_norm_and_head_biases() -> None:
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2}
    architecture = read("phimoe", **experts, attention_bias=True, lm_head_bias=True)
    assert architecture.head_bias
    assert architecture.norm_vectors == 2
    assert mixture(architecture).expert_intermediate_size == 128
