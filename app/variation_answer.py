"""What a changed server does to a model, at once: a prompt, decoding, room for the cache, each beside the original."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from sim.scenario import Scenario
from sim.serving.deployment import Deployment, deploy
from sim.serving.single_step import step_seconds
from workloads.models.catalog import model as load_model
from workloads.models.operators import check_tensor_parallel

PROMPT_TOKENS, CONTEXT_TOKENS, SEQUENCES = 2048, 2048, 64


@dataclass(frozen=True, slots=True)
class Question:
    """One row: what is asked, and which way is better."""

    text: str
    unit: str
    larger_is_better: bool
    ask: Callable[[Deployment], float]


def _step(prefill: int, sequences: int) -> Callable[[Deployment], float]:
    return lambda deployment: (
        1e3
        * step_seconds(
            deployment, prefill_tokens=prefill, prefill_context=0, decode_seqs=sequences, decode_context=CONTEXT_TOKENS
        )
    )


QUESTIONS = (
    Question(f"prompt of {PROMPT_TOKENS:,} tokens", "ms", False, _step(PROMPT_TOKENS, 0)),
    Question("a token of 1 sequence", "ms", False, _step(0, 1)),
    Question(f"a token of {SEQUENCES} sequences at {CONTEXT_TOKENS:,} each", "ms", False, _step(0, SEQUENCES)),
    Question(
        "tokens of KV cache",
        "",
        True,
        lambda deployment: float(deployment.limits.kv_blocks * deployment.limits.block_size),
    ),
)


def answers(original: str, copy: str, model: str, tensor_parallel_size: int, weight_dtype: str) -> pd.DataFrame:
    """A row a question: original and copy (NaN where the model does not fit), and copy over original.

    original, copy: nodes, by catalog name or file. Raises FleetcastError where neither can run it.
    """
    found: list[Deployment | None] = []
    mistakes = []
    for node in (original, copy):
        try:
            found.append(deploy(_scenario(node, model, tensor_parallel_size, weight_dtype)))
        except FleetcastError as mistake:
            found.append(None)
            mistakes.append(mistake)
    if len(mistakes) == len(found):
        raise mistakes[0]
    rows = []
    for question in QUESTIONS:
        before, after = (math.nan if one is None else question.ask(one) for one in found)
        row = {"question": question.text, "unit": question.unit, "original": before, "copy": after}
        rows.append(row | {"ratio": after / before, "larger_is_better": question.larger_is_better})
    return pd.DataFrame(rows)


def weight_dtypes(node: str) -> list[str]:
    """Formats of weights that a server's GPUs multiply in, the usual one first."""
    peaks = catalog.gpu(catalog.node(node).gpu).peak_flop_per_s
    return [dtype for dtype in ("bf16", "fp16", "fp8") if dtype in peaks]


def formats(weight_dtype: str) -> dict[str, str]:
    """Keys of a scenario's model: a cache in fp16 beside fp16 weights, as devices without bf16 need it."""
    return {"weight_dtype": weight_dtype, **({"kv_cache_dtype": "fp16"} if weight_dtype == "fp16" else {})}


def parallel_sizes(node: str, model: str) -> list[int]:
    """Tensor-parallel sizes that a server and a model allow: powers of two up to its GPUs."""
    architecture, gpus = load_model(model), catalog.node(node).gpus
    sizes = []
    for size in (2**power for power in range(gpus.bit_length())):
        try:
            check_tensor_parallel(architecture, size)
        except FleetcastError:
            break
        sizes.append(size)
    return sizes


def _scenario(node: str, model: str, tensor_parallel_size: int, weight_dtype: str) -> Scenario:
    workload = {
        "generator": {
            "name": "synthetic",
            "arrivals": {"name": "constant", "request_rate": 1.0},
            "prompt_tokens": PROMPT_TOKENS,
            "output_tokens": 1,
        },
        "num_requests": 1,
    }
    return Scenario.model_validate(
        {
            "model": {"config": model, **formats(weight_dtype)},
            "cluster": {"node": node},
            "serving": {"tensor_parallel_size": tensor_parallel_size},
            "workload": workload,
        }
    )
