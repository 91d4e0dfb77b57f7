"""Tiny models, and a forward pass of one sequence alone that shares no code with the server's."""

import json
import math
from pathlib import Path

import numpy as np

from calibration.reference_server.weights import LayerWeights, Weights
from workloads.request import RequestTable

DENSE = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 128, "max_position_embeddings": 512,
}  # fmt: skip
CONFIGS = {
    "llama": DENSE,
    "qwen2": DENSE | {"model_type": "qwen2", "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 16},
    "mixtral": DENSE | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "tied": DENSE | {"tie_word_embeddings": True, "num_key_value_heads": 4},
}


def config_file(folder: Path, name: str) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(CONFIGS[name]))
    return str(path)


def requests(count: int, *, seed: int = 0, prompt: int = 90, output: int = 30, span_s: float = 0.02) -> RequestTable:
    random = np.random.default_rng(seed)
    return RequestTable.build(
        source="made up",
        arrival_s=random.uniform(0, span_s, count),
        prompt_tokens=random.integers(1, prompt, count),
        output_tokens=random.integers(1, output, count),
    )


def naive_logits(torch, weights: Weights, tokens: list[int], shape):
    """(vocab,) after the last of `tokens`, attention over all of them, head by head."""
    count, dim = len(tokens), shape.head_dim
    x = weights.embedding[tokens]
    frequencies = torch.tensor([10_000.0 ** (-2 * i / dim) for i in range(dim // 2)])
    turn = torch.polar(torch.ones(count, dim // 2), torch.outer(torch.arange(count).float(), frequencies))

    def norm(x):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)

    def rotated(x):
        whole = torch.complex(x[:, : dim // 2], x[:, dim // 2 :]) * turn
        return torch.cat([whole.real, whole.imag], dim=-1)

    for layer in weights.layers:
        qkv = norm(x) @ layer.qkv.T + (0 if layer.qkv_bias is None else layer.qkv_bias)
        heads = qkv.split(dim, dim=-1)
        outs = []
        for head in range(shape.heads):
            group = head * shape.kv_heads // shape.heads
            key, value = heads[shape.heads + group], heads[shape.heads + shape.kv_heads + group]
            scores = rotated(heads[head]) @ rotated(key).T / math.sqrt(dim)
            scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), -math.inf)
            outs.append(scores.softmax(-1) @ value)
        x = x + torch.cat(outs, dim=-1) @ layer.output.T
        x = x + naive_mlp(torch, layer, norm(x), shape)
    return norm(x)[-1] @ weights.head.T


def naive_mlp(torch, layer: LayerWeights, x, shape):
    def gated(x, up, down):
        gate, linear = (x @ up.T).chunk(2, dim=-1)
        return (gate * torch.sigmoid(gate) * linear) @ down.T

    if not shape.experts:
        return gated(x, layer.up, layer.down)
    out = torch.zeros_like(x)
    for row, token in enumerate(x):
        scores = (token @ layer.router.T).softmax(-1)
        best = sorted(range(shape.experts), key=lambda e: -float(scores[e]))[: shape.top_k]
        total = sum(scores[expert] for expert in best)
        for expert in best:
            out[row] += scores[expert] / total * gated(token, layer.up[expert], layer.down[expert])
    return out


def naive_tokens(torch, weights: Weights, prompt: list[int], count: int, shape) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(naive_logits(torch, weights, tokens, shape).argmax()))
    return tokens[len(prompt) :]
