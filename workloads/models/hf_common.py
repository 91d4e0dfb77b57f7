"""What the config readers of all families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workloads.models.architecture import Attention, AttentionSpec, DenseMlp, LayerGroup, Mlp, ModelArchitecture
from workloads.models.config_fields import ConfigFields

Reader = Callable[[ConfigFields], ModelArchitecture]

LAYER_TYPES = ("full_attention", "sliding_attention")


def head_dim(fields: ConfigFields, heads: int) -> int:
    """The head_dim a config states, else hidden_size over heads."""
    hidden = fields.integer("hidden_size")
    _, stated = fields.find("head_dim")
    if stated is None and hidden % heads:
        key, _ = fields.find("num_attention_heads")
        raise fields.error(key, heads, f"must divide hidden_size = {hidden} where no head_dim is given")
    return fields.integer("head_dim", default=hidden // heads)


def attention(
    fields: ConfigFields,
    *,
    window: int = 0,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    sinks: bool = False,
) -> AttentionSpec:
    """Grouped-query attention with the usual fields; without num_key_value_heads every head has its own."""
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads", default=heads)
    if heads % kv_heads:
        key, _ = fields.find("num_key_value_heads")
        raise fields.error(key, kv_heads, f"must divide the {heads} attention heads")
    return AttentionSpec(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim(fields, heads),
        window=window,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
        sinks=sinks,
    )


def windows(fields: ConfigFields, *, window: int, slides: Callable[[int], bool]) -> list[int]:
    """Each layer's window: by the config's layer_types where given, else where `slides(layer)`."""
    num_layers = fields.integer("num_hidden_layers")
    layer_types = fields.config.get("layer_types")
    if layer_types is None:
        return [window if slides(layer) else 0 for layer in range(num_layers)]
    if not isinstance(layer_types, list) or len(layer_types) != num_layers:
        raise fields.error("layer_types", layer_types, f"must be a list of {num_layers} names, one a layer")
    for layer_type in layer_types:
        if layer_type not in LAYER_TYPES:
            raise fields.error("layer_types", layer_type, f"unknown kind of layer; accepted: {', '.join(LAYER_TYPES)}")
    return [window if layer_type == "sliding_attention" else 0 for layer_type in layer_types]


def sliding_window(fields: ConfigFields, default: int = 0) -> int:
    """The config's sliding_window: null means none, absent the default of the family's configuration class."""
    if "sliding_window" not in fields.config:
        return default
    return fields.integer("sliding_window", default=0)


def qwen_attentions(
    fields: ConfigFields, *, qkv_bias: bool, output_bias: bool = False, qk_norm: bool = False
) -> list[AttentionSpec]:
    """Attention a layer: with use_sliding_window, layers from max_window_layers on have a window."""
    window = sliding_window(fields, default=4096) if fields.flag("use_sliding_window", False) else 0
    first = fields.integer("max_window_layers", default=28, minimum=0)
    return [
        attention(fields, window=size, qkv_bias=qkv_bias, output_bias=output_bias, qk_norm=qk_norm)
        for size in windows(fields, window=window, slides=lambda layer: layer >= first)
    ]


def gated_mlp(fields: ConfigFields) -> DenseMlp:
    """A gated MLP without biases."""
    return DenseMlp(intermediate_size=fields.integer("intermediate_size"))


def grouped(attentions: Sequence[Attention], mlps: Sequence[Mlp]) -> tuple[LayerGroup, ...]:
    """Layers with the same content as groups, in order of first appearance."""
    groups: dict[tuple[Attention, Mlp], list[int]] = {}
    for layer, content in enumerate(zip(attentions, mlps, strict=True)):
        groups.setdefault(content, []).append(layer)
    return tuple(
        LayerGroup(layers=tuple(layers), attention=attention, mlp=mlp) for (attention, mlp), layers in groups.items()
    )


def decoder(
    fields: ConfigFields,
    attentions: Attention | Sequence[Attention],
    mlps: Mlp | Sequence[Mlp],
    *,
    tied: bool = False,
    max_positions: int | None = None,
) -> ModelArchitecture:
    """A decoder from one attention and MLP for all layers, or one each a layer; `tied` is the family's default."""
    num_layers = fields.integer("num_hidden_layers")
    by_layer = attentions if isinstance(attentions, Sequence) else [attentions] * num_layers
    mlp_by_layer = mlps if isinstance(mlps, Sequence) else [mlps] * num_layers
    return ModelArchitecture(
        name=fields.name,
        model_type=str(fields.config["model_type"]),
        hidden_size=fields.integer("hidden_size"),
        num_layers=num_layers,
        vocab_size=fields.integer("vocab_size"),
        max_position_embeddings=fields.integer("max_position_embeddings", default=max_positions),
        groups=grouped(by_layer, mlp_by_layer),
        tie_word_embeddings=fields.flag("tie_word_embeddings", tied),
    )
