"""A batch job of offloaded inference made ready to run: the model's parts, prices, budgets, and the policy's plan."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.specs import GpuSpec, NodeSpec
from hardware_models.tiers import Tiers, tiers
from policies.offload.block_plan import BlockPlan, Job, Part, Routed, Tier
from policies.offload.flexgen_search import FlexGenSearch
from policies.offload.inference_policies import INFERENCE_OFFLOAD
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.offload.worker_prices import WorkerPrices
from sim.policy_choice import make_policy
from workloads.models.architecture import AttentionSpec, DenseMlp, LayerGroup, ModelArchitecture
from workloads.models.catalog import model
from workloads.models.dtypes import Dtypes
from workloads.models.weights import embedding_weights, head_weights, layer_weights

CONTEXT_BYTES = 520e6  # of a GPU, that a CUDA context and libraries take; assumed, as of serving engines


@dataclass(frozen=True, slots=True)
class InferenceDeployment:
    """What one run needs."""

    scenario: OffloadedInferenceScenario
    architecture: ModelArchitecture
    node: NodeSpec
    gpu: GpuSpec
    tiers: Tiers
    prices: WorkerPrices
    job: Job
    budgets: dict[Tier, float]
    plan: BlockPlan
    others: tuple[BlockPlan, ...] = ()  # that a search thinks nearly as good, to be run too


def deploy_inference(scenario: OffloadedInferenceScenario) -> InferenceDeployment:
    """Look everything up and let the policy decide; raises FleetcastError for what is impossible."""
    architecture = model(scenario.model.config)
    node = catalog.node(scenario.cluster.node)
    gpu = catalog.gpu(node.gpu)
    below = tiers(node, drives=scenario.offload.drives, dram_bytes=scenario.offload.host_memory_bytes)
    chosen = scenario.model
    dtypes = Dtypes(weight=chosen.weight_dtype, activation=chosen.compute_dtype, kv_cache=chosen.kv_cache_dtype)
    Device(gpu).peak_flop_per_s(dtypes.activation)
    prices = WorkerPrices(architecture, Device(gpu), below, dtypes, scenario.offload.rates)
    job = _job(scenario, architecture, dtypes)
    budgets: dict[Tier, float] = {
        "gpu": float(gpu.memory_bytes) - CONTEXT_BYTES,
        "host": below.dram_bytes,
        "storage": below.drives.capacity_bytes if below.drives else 0.0,
    }
    plan, *others = _plans(scenario, job, prices, budgets)
    requests = scenario.workload.num_requests
    if requests is not None and requests < plan.sequences:
        raise ImpossibleError(
            f"workload.num_requests = {requests}: a block of offload.policy takes {plan.sequences} requests; give that"
            " many, or a smaller block"
        )
    return InferenceDeployment(scenario, architecture, node, gpu, below, prices, job, budgets, plan, tuple(others))


def _plans(
    scenario: OffloadedInferenceScenario, job: Job, prices: WorkerPrices, budgets: dict[Tier, float]
) -> list[BlockPlan]:
    """What the policy decides; of a search, the best few."""
    policy = make_policy("offload.policy", scenario.offload.policy, INFERENCE_OFFLOAD, {})
    if isinstance(policy, FlexGenSearch):
        return policy.plans(job, prices, budgets)
    return [policy.plan(job, prices, budgets)]


def _job(scenario: OffloadedInferenceScenario, architecture: ModelArchitecture, dtypes: Dtypes) -> Job:
    workload = scenario.workload
    if workload.prompt_tokens + workload.output_tokens > architecture.max_position_embeddings:
        raise ImpossibleError(
            f"workload.prompt_tokens + workload.output_tokens = {workload.prompt_tokens + workload.output_tokens}:"
            f" {architecture.name} has {architecture.max_position_embeddings} positions; give fewer tokens"
        )
    return Job(
        tuple(_parts(architecture, dtypes)),
        workload.prompt_tokens,
        workload.output_tokens,
        workload.num_requests,
        architecture.hidden_size * bytes_per_element(dtypes.residual),
    )


def _parts(architecture: ModelArchitecture, dtypes: Dtypes) -> list[Part]:
    """Halves of the layers in the model's order, between embedding and head; a tied head is loaded like any other."""
    kept = bytes_per_element(dtypes.kept)
    parts = [Part("embedding", "embedding", 0, tuple(one.elements * kept for one in embedding_weights(architecture)))]
    of_layer = {layer: number for number, group in enumerate(architecture.groups) for layer in group.layers}
    for layer in range(architecture.num_layers):
        shape = of_layer[layer]
        group = architecture.groups[shape]
        attention, mlp = _tensors(architecture, group, dtypes)
        kv = _cached_elements(group) * bytes_per_element(dtypes.kv_cache)
        parts.append(Part(f"layer {layer} attention", "attention", shape, attention, kv))
        parts.append(_mlp_part(layer, shape, mlp, architecture, group, dtypes))
    head = head_weights(architecture, shares_embedding=False)
    return [*parts, Part("head", "head", 0, tuple(one.elements * kept for one in head))]


def _mlp_part(
    layer: int,
    shape: int,
    tensors: tuple[float, ...],
    architecture: ModelArchitecture,
    group: LayerGroup,
    dtypes: Dtypes,
) -> Part:
    name = f"layer {layer} MLP"
    if isinstance(group.mlp, DenseMlp):
        matrices = 3 if group.mlp.gated else 2
        return Part(name, "mlp", shape, tensors, neurons=group.mlp.intermediate_size, matrices=matrices)
    return Part(name, "mlp", shape, tensors, routed=_routed(architecture, group, dtypes))


def _routed(architecture: ModelArchitecture, group: LayerGroup, dtypes: Dtypes) -> Routed | None:
    """The experts of a layer that has any."""
    if isinstance(group.mlp, DenseMlp):
        return None
    held = next(weight for weight in layer_weights(architecture, group) if weight.part == "experts")
    dtype = dict(architecture.stored_dtypes).get("experts", dtypes.weight)
    size = held.elements * bytes_per_element(dtype) / group.mlp.experts
    return Routed(group.mlp.experts, group.mlp.top_k, size)


def _cached_elements(group: LayerGroup) -> int:
    spec = group.attention
    if isinstance(spec, AttentionSpec):
        return 2 * spec.kv_heads * spec.head_dim
    return spec.kv_lora_rank + spec.qk_rope_head_dim


def _tensors(
    architecture: ModelArchitecture, group: LayerGroup, dtypes: Dtypes
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bytes of the matrices of attention and of the MLP, then of all their vectors together."""
    attention: list[float] = []
    mlp: list[float] = []
    vectors = 0.0
    for weight in layer_weights(architecture, group):
        if not weight.multiplies or weight.part == "router":
            vectors += weight.elements * bytes_per_element(dtypes.kept)
            continue
        dtype = dict(architecture.stored_dtypes).get(weight.part, dtypes.weight)
        size = weight.elements * bytes_per_element(dtype)
        if weight.part == "attention":
            attention += [size * share for share in _attention_shares(group)]
        else:
            count = (3 if group.mlp.gated else 2) if isinstance(group.mlp, DenseMlp) else 1
            mlp += [size / count] * count
    return (*attention, vectors / 2.0), (*mlp, vectors / 2.0)


def _attention_shares(group: LayerGroup) -> list[float]:
    """Of queries, keys, values and output in what attention multiplies by."""
    spec = group.attention
    if not isinstance(spec, AttentionSpec):
        return [1.0]
    widths = [spec.heads, spec.kv_heads, spec.kv_heads, spec.heads]
    return [width / sum(widths) for width in widths]
