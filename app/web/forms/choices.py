"""Where a knob's choices come from: catalogs, registries, the user's own files; and values to begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.catalog_view import POLICIES
from app.web.examples import example_names
from app.web.families import TRAINING
from app.web.guard import TRACE_SUFFIXES
from app.web.store import Store
from hardware_models import catalog
from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.framework import framework_names
from hardware_models.kernels.attention_training import IMPLEMENTATIONS
from hardware_models.training_framework import training_framework_names
from policies.checkpoint import CHECKPOINT
from policies.offload import OFFLOAD
from policies.offload.inference_policies import INFERENCE_OFFLOAD
from sim.checkpoint_section import CheckpointSection
from sim.offload.inference_scenario import OffloadedInferenceSection
from sim.offload_section import OffloadSection
from workloads.generators import ARRIVALS, GENERATORS, LENGTHS
from workloads.generators.arrivals import Arrivals
from workloads.generators.lengths import Lengths
from workloads.models import catalog as models
from workloads.traces.catalog import catalog_names
from workloads.training.attention import STANDARD

Registry = Mapping[str, type[Any]]

FAMILIES: dict[Any, Registry] = {  # by the type of a generator's field, or by the section
    Arrivals: ARRIVALS,
    Lengths: LENGTHS,
    OffloadSection: OFFLOAD,
    CheckpointSection: CHECKPOINT,
    OffloadedInferenceSection: INFERENCE_OFFLOAD,
}
ROW_TRAINING = TRAINING.default  # beside servers that serve, behind one breaker
STARTS: dict[str, Any] = {  # what an absent key begins with once it is set
    "model.activation_dtype": "bf16",
    "model.vocab_size": 51_200,
    "cluster.network": "infiniband-ndr",
    "serving.max_model_len": 8192,
    "serving.num_gpu_blocks_override": 20_000,
    "workload.request_rate": 5.0,
    "workload.duration_s": 600.0,
    "workload.num_requests": 5000,
    "power.clock_mhz": 1200.0,
    "power.prefill_clock_mhz": 1200.0,
    "power.decode_clock_mhz": 1000.0,
    "power.gpu_power_limit_w": 300.0,
    "power.row_limit_w": 260_000.0,
    "power.provisioned_nodes": 40,
    "power.training.scenario": ROW_TRAINING,
    "power.training.nodes": 8,
    "power.training.clocks_mhz": [600.0, 900.0, 1200.0],
    "power.governor_clocks_mhz": [600.0, 900.0, 1200.0],
    "offload.drives": 1,
    "offload.host_memory_bytes": 256e9,
    "offload.cpu_adam_parameters_per_s": 1e9,
    "checkpoint.node_bytes_per_s": 4e9,
    "checkpoint.total_bytes_per_s": 100e9,
    "offload.rates.h2d_bytes_per_s": 12e9,
    "offload.rates.h2d_pageable_bytes_per_s": 6e9,
    "offload.rates.d2h_cache_bytes_per_s": 6e9,
    "offload.rates.d2h_activation_bytes_per_s": 6e9,
    "offload.rates.storage_read_bytes_per_s": 3e9,
    "offload.rates.storage_read_latency_s": 2e-4,
    "offload.rates.storage_write_bytes_per_s": 1e9,
    "offload.rates.prefill_matrix_flop_per_s": 20e12,
    "offload.rates.decode_matrix_flop_per_s": 10e12,
    "offload.rates.prefill_attention_flop_per_s": 10e12,
    "offload.rates.decode_attention_flop_per_s": 0.1e12,
    "offload.rates.cpu_attention_flop_per_s": 10e9,
    "offload.rates.cpu_matrix_flop_per_s": 500e9,
    "offload.rates.cpu_stream_bytes_per_s": 40e9,
    "slo.ttft_s": 2.0,
    "slo.tbt_s": 0.1,
    "slo.tpot_s": 0.05,
    "slo.e2e_s": 30.0,
}
_POISSON = {"name": "poisson", "request_rate": 4.0}
_PROMPTS = {"name": "lognormal", "p50": 800, "p99": 6000}
_ANSWERS = {"name": "lognormal", "p50": 150, "p99": 1000}
_LAWS = {"arrivals": _POISSON, "prompt_tokens": _PROMPTS, "output_tokens": _ANSWERS}
GENERATOR_STARTS: dict[str, dict[str, Any]] = {
    "synthetic": {"name": "synthetic", **_LAWS},
    "sessions": {"name": "sessions", "turns": {"name": "uniform", "min_tokens": 1, "max_tokens": 5}, **_LAWS},
    "clients": {"name": "clients", "clients": [{"name": "chat", **_LAWS}]},
}
FIELD_STARTS: dict[str, Any] = {  # of a law's required keys
    "request_rate": 4.0,
    "tokens": 512,
    "min_tokens": 64,
    "max_tokens": 1024,
    "turns": {"name": "fixed", "tokens": 3},
    "arrivals": _POISSON,
    "prompt_tokens": _PROMPTS,
    "output_tokens": _ANSWERS,
    "gaps": [0.0, 0.5, 2.0],
    "probabilities": [0.0, 0.5, 1.0],
    "t_s": [0.0, 300.0, 600.0],
    "mean": 800.0,
    "std": 900.0,
    "p50": 800.0,
    "p99": 6000.0,
    "total_tokens": _PROMPTS,
    "prompt_to_output_ratio": 8.0,
    "weights": [0, 100],
    "kv_cache": [0, 100],
    "activations": [0, 100],
    "gpu_batch_size": 32,
}


def registry(key: str, family: Any) -> Registry:
    """Names and classes behind a policy's key; empty where nobody registered any."""
    if key == "workload.generator":
        return GENERATORS
    return FAMILIES.get(family) or POLICIES.get(key) or {}


def names_for(key: str, store: Store) -> tuple[str, ...]:
    """What may stand at a key that names something; empty for free text."""
    if key.endswith("_dtype"):
        return tuple(BYTES_PER_ELEMENT)
    known: dict[str, Callable[[], list[str]]] = {
        "model.config": lambda: [*models.names(), *store.files(store.uploads, (".json",))],
        "cluster.node": lambda: [*catalog.names("node"), *store.files(store.hardware, (".toml",))],
        "cluster.network": lambda: catalog.names("link"),
        "serving.engine": framework_names,
        "training.framework": training_framework_names,
        "training.attention": lambda: [STANDARD, *IMPLEMENTATIONS],
        "energy.grid": lambda: catalog.names("grid"),
        "energy.price": lambda: catalog.names("energy_price"),
        "energy.embodied": lambda: catalog.names("embodied_carbon"),
        "power.training.scenario": lambda: example_names(TRAINING),
        "workload.trace": lambda: [*catalog_names(), *store.files(store.uploads, TRACE_SUFFIXES)],
    }
    return tuple(known[key]()) if key in known else ()
