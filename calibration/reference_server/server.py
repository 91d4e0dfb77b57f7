"""Puts a server together (model, memory, kernels, scheduler) and lets it play a request table."""

from __future__ import annotations

import datetime
import gc
import importlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.measure.machine import choose_device, load_torch
from calibration.reference_server.attention import PagedAttention
from calibration.reference_server.elementwise import make_elementwise, rope_table
from calibration.reference_server.engine import ReferenceEngine
from calibration.reference_server.executor import Executor
from calibration.reference_server.experts import Experts
from calibration.reference_server.memory import GIB, check_weights_fit, count_blocks
from calibration.reference_server.model import Model
from calibration.reference_server.options import ServerOptions
from calibration.reference_server.seats import Seats
from calibration.reference_server.shape import model_shape
from calibration.reference_server.warm_up import made_up_step, warm_up
from calibration.reference_server.weights import random_weights
from hardware_models.errors import DoesNotFitError, FleetcastError
from policies.serving import SCHEDULERS, BatchScheduler
from sim.serving.lane import Limits
from workloads.models.catalog import model as load_model
from workloads.randomness import stream
from workloads.request import RequestTable

TORCH_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
SCHEMA = 1
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Served:
    """A run that is over."""

    engine: ReferenceEngine
    facts: dict[str, Any]  # what run.toml says: device, versions, options, memory


def serve(model: str, requests: RequestTable, options: ServerOptions, progress: Progress = lambda _: None) -> Served:
    """Build the server for a catalog model (or a config.json), play `requests` and return what happened.

    Raises FleetcastError for what cannot run here, DoesNotFitError where memory is short.
    """
    architecture = load_model(model)
    shape = model_shape(architecture)
    torch = load_torch()
    if torch is None:
        raise FleetcastError("the reference server needs PyTorch; install the gpu extra: pip install 'fleetcast[gpu]'")
    options = options.resolved(choose_device(options.device))
    weights_bytes = check_weights_fit(torch, architecture, options)
    longest = _longest(requests, options)
    scheduler = _scheduler(options)
    torch.manual_seed(options.seed)
    with torch.inference_mode():
        started = time.perf_counter()
        try:
            executor, blocks = _executor(torch, architecture.name, shape, options, scheduler, longest, progress)
            sizes = _prepare(executor, options, scheduler, longest, progress)
        except torch.OutOfMemoryError as error:
            raise DoesNotFitError(
                f"{architecture.name} does not fit beside its activations ({str(error).splitlines()[0]}); lower"
                " --gpu-memory-utilization, --max-num-batched-tokens or --max-num-seqs"
            ) from None
        seats = Seats(seats=options.max_num_seqs, longest=longest, blocks=blocks, block_size=options.block_size)
        set_up_s = time.perf_counter() - started
        limits = Limits(blocks, options.block_size, 0, 0.0, 0)

        def prompt(index: int) -> NDArray[np.int32]:
            draw = stream(options.seed, f"prompt {index}")
            return draw.integers(0, shape.vocab, int(requests.prompt_tokens[index]), dtype=np.int32)

        engine = ReferenceEngine(scheduler, limits, requests, prompt, seats, executor)
        gc.collect()
        gc.disable()
        try:
            took_s = engine.play(options.budget_s, options.drain_s, progress)
        finally:
            gc.enable()
    facts = {
        "schema": SCHEMA,
        "model": str(Path(model).resolve()) if model.endswith(".json") else model,
        "requests": requests.source,
        "duration_s": took_s,
        "set_up_s": set_up_s,
        "kv_blocks": blocks,
        "weight_bytes": int(weights_bytes),
        "graph_sizes": sizes,
        **_machine(torch, options),
        "options": {name: value for name, value in asdict(options).items() if value is not None},
    }
    return Served(engine, facts)


def _longest(requests: RequestTable, options: ServerOptions) -> int:
    lengths = requests.prompt_tokens + requests.output_tokens
    longest = int(lengths.max())
    return longest if options.max_model_len is None else min(longest, options.max_model_len)


def _scheduler(options: ServerOptions) -> BatchScheduler:
    return SCHEDULERS[options.scheduler](
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens,
        max_model_len=options.max_model_len or 0,
    )


def _most_tokens(options: ServerOptions, scheduler: BatchScheduler, longest: int) -> int:
    """Rows of the largest step: where prompts are not split, one alone may exceed the budget."""
    budget = options.max_num_batched_tokens
    return budget if scheduler.chunks_prompts else max(budget, longest)


def _executor(
    torch: Any,
    name: str,
    shape: Any,
    options: ServerOptions,
    scheduler: BatchScheduler,
    longest: int,
    progress: Progress,
) -> tuple[Executor, int]:
    """Weights, then a step of the largest size in a small cache to see what activations take, then the KV cache."""
    device, dtype = options.device, getattr(torch, TORCH_DTYPES[options.dtype])
    progress(f"drawing the weights of {name}")
    weights = random_weights(torch, shape, dtype, device, options.seed)
    width = -(-longest // options.block_size)
    table = torch.zeros(options.max_num_seqs + 1, width, dtype=torch.int32, device=device)
    positions = max(longest, _most_tokens(options, scheduler, longest)) + 1
    elementwise = make_elementwise(
        options.elementwise, torch, shape, rope_table(torch, positions, shape.head_dim, device)
    )
    attention = PagedAttention(torch, shape, table, options.block_size, options.attention)
    model = Model(torch, shape, weights, elementwise, attention, Experts(torch, shape, elementwise, options.experts))

    def cache(blocks: int) -> list[tuple[Any, Any]]:
        sizes = blocks, options.block_size, shape.kv_heads, shape.head_dim
        return [
            (torch.zeros(sizes, dtype=dtype, device=device), torch.zeros(sizes, dtype=dtype, device=device))
            for _ in range(shape.layers)
        ]

    peak = _activation_peak(Executor(torch, model, cache(2), table), options, scheduler, longest)
    blocks = count_blocks(torch, shape, options, peak, longest)
    progress(f"KV cache: {blocks} blocks of {options.block_size} tokens; activations {peak / GIB:.2f} GiB")
    table.fill_(blocks)
    return Executor(torch, model, cache(blocks + 1), table), blocks


def _activation_peak(executor: Executor, options: ServerOptions, scheduler: BatchScheduler, longest: int) -> float:
    """Bytes that a step of the most tokens needs beside weights and cache; 0 on a CPU, which nobody asks."""
    if not executor.is_gpu:
        return 0.0
    cuda, most = executor.torch.cuda, _most_tokens(options, scheduler, longest)
    seqs = min(options.max_num_seqs, most)
    before = cuda.memory_allocated()
    cuda.reset_peak_memory_stats()
    executor.run(made_up_step(executor, longest=longest, new=most, past=longest // 2))
    executor.run(made_up_step(executor, longest=longest, decodes=seqs, context=longest))
    if most > seqs:
        executor.run(made_up_step(executor, longest=longest, new=most - seqs, decodes=seqs, context=longest))
    return float(cuda.max_memory_allocated() - before)


def _prepare(
    executor: Executor, options: ServerOptions, scheduler: BatchScheduler, longest: int, progress: Progress
) -> list[int]:
    """Warm up and capture graphs; returns the graphs' sizes."""
    most_tokens = _most_tokens(options, scheduler, longest)
    warm_up(executor, most_tokens=most_tokens, most_seqs=options.max_num_seqs, longest=longest, progress=progress)
    sizes = executor.capture(options.max_num_seqs, progress) if options.graphs else []
    executor.table.fill_(executor.cache[0][0].shape[0] - 1)
    return sizes


def _machine(torch: Any, options: ServerOptions) -> dict[str, Any]:
    gpu = options.device == "cuda"
    facts = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "prefill_attention": "torch flash, varlen" if gpu else "torch sdpa, masked",
        "device_name": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    if gpu:
        facts["cuda"] = str(torch.version.cuda)
        facts["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        facts["memory_bytes"] = int(torch.cuda.mem_get_info()[1])
    if "triton" in (options.attention, options.elementwise):
        facts["triton"] = str(importlib.import_module("triton").__version__)
    if options.attention == "flash":
        facts["flash_attn"] = str(importlib.import_module("flash_attn").__version__)
    return facts
