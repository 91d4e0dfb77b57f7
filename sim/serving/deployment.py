"""From a scenario to engines: which fabric joins the ranks, what each stage computes, how much memory KV has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hardware_models import catalog
from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.efficiency import link_source
from hardware_models.errors import FleetcastError
from hardware_models.framework import Framework, framework
from hardware_models.specs import GpuSpec, LinkSpec, NodeSpec
from sim.scenario import Scenario, ServingSection
from sim.serving.engine import Limits
from sim.serving.memory import GIB, MemoryPlan, activation_peak_bytes, plan_memory
from sim.serving.row_costs import RowCosts
from sim.serving.step_cost import AttentionCost, StageCost
from workloads.models.architecture import DenseMlp, ModelArchitecture
from workloads.models.catalog import model as load_model
from workloads.models.counts import kv_bytes_per_token, weight_bytes
from workloads.models.operators import (
    Dtypes,
    LayerRange,
    attention_shapes,
    check_tensor_parallel,
    head_operators,
    split_layers,
    token_operators,
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One kind of replica, ready to run; all replicas of a scenario share it."""

    architecture: ModelArchitecture
    gpu: GpuSpec
    node: NodeSpec
    profile: Framework
    dtypes: Dtypes
    stages: list[StageCost]
    transfer_s: Callable[[int], float]  # rows -> seconds between two pipeline stages
    limits: Limits
    memory: MemoryPlan
    gpus_per_replica: int
    gpus_total: int
    grades: dict[str, str]  # what the times rest on -> measured, quoted or assumed


def deploy(scenario: Scenario) -> Deployment:
    """Build it; raises FleetcastError for a plan that is impossible and DoesNotFitError for one too large."""
    serving, model = scenario.serving, scenario.model
    architecture = load_model(model.config)
    node = catalog.node(scenario.cluster.node)
    gpu = catalog.gpu(node.gpu)
    profile = framework(serving.engine)
    dtypes = Dtypes(weight=model.weight_dtype, activation=model.compute_dtype, kv_cache=model.kv_cache_dtype)
    tp, pp = serving.tensor_parallel_size, serving.pipeline_parallel_size
    _check_gpus(scenario, node)
    check_tensor_parallel(architecture, tp)
    if pp > architecture.num_layers:
        raise FleetcastError(
            f"serving.pipeline_parallel_size = {pp}: {architecture.name} has {architecture.num_layers} layers;"
            " give at most one stage a layer"
        )
    device = Device(gpu)
    fabric = tensor_fabric(node, tp, scenario.cluster.network)
    layers = split_layers(architecture.num_layers, pp)
    stages = [
        _stage(architecture, device, fabric, profile, dtypes, tp, part, last=part is layers[-1]) for part in layers
    ]
    heaviest = max(layers, key=lambda part: weight_bytes(architecture, model.weight_dtype, tp=tp, layers=part))
    kv_bytes = max(kv_bytes_per_token(architecture, model.kv_cache_dtype, tp=tp, layers=part) for part in layers)
    memory = plan_memory(
        device_bytes=gpu.memory_bytes,
        weight_bytes=weight_bytes(architecture, model.weight_dtype, tp=tp, layers=heaviest),
        activation_bytes=activation_peak_bytes(architecture, model, serving, _widest_mlp(architecture)),
        kv_bytes_per_token=kv_bytes,
        framework=profile,
        serving=serving,
        where=f"{architecture.name} ({model.weight_dtype}, TP{tp}, PP{pp}) on {gpu.name}",
    )
    host_bytes_per_s = Fabric(catalog.link(node.pcie), 2).bytes_per_s
    limits = Limits(
        kv_blocks=memory.kv_blocks,
        block_size=serving.block_size,
        swap_blocks=int(serving.swap_space_gib * GIB // memory.block_bytes),
        swap_block_s=memory.block_bytes / host_bytes_per_s,
        window=stages[0].window,
    )
    return Deployment(
        architecture, gpu, node, profile, dtypes, stages, _transfer(node, serving, scenario, architecture, dtypes),
        limits, memory, tp * pp, node.gpus * scenario.cluster.nodes, _grades(device, profile, fabric, tp),
    )  # fmt: skip


def _grades(device: Device, profile: Framework, fabric: AnyFabric, tp: int) -> dict[str, str]:
    grades = {
        "operators": device.efficiency.source["default"].grade,
        "software": profile.source["default"].grade,
    }
    if tp > 1:
        slowest = fabric.outer if isinstance(fabric, HierarchicalFabric) else fabric
        grades["links"] = link_source(slowest.link.kind).grade
    return grades


def _check_gpus(scenario: Scenario, node: NodeSpec) -> None:
    serving = scenario.serving
    need = serving.replicas * serving.tensor_parallel_size * serving.pipeline_parallel_size
    have = node.gpus * scenario.cluster.nodes
    if need > have:
        raise FleetcastError(
            f"serving.replicas = {serving.replicas} x tensor_parallel_size = {serving.tensor_parallel_size} x"
            f" pipeline_parallel_size = {serving.pipeline_parallel_size} need {need} GPUs; cluster.nodes ="
            f" {scenario.cluster.nodes} x {node.name} has {have}"
        )


def tensor_fabric(node: NodeSpec, ranks: int, network: str | None) -> AnyFabric:
    """What joins the ranks of one tensor-parallel group, packed into as few scale-up groups and nodes as possible."""
    pcie = catalog.link(node.pcie)
    if node.scale_up is not None and ranks <= node.scale_up_group:
        return Fabric(_scale_up(node, node.scale_up, ranks), ranks)
    if ranks <= node.gpus:
        if node.scale_up is None or node.scale_up_group == 1:
            return Fabric(pcie, ranks)
        inner = Fabric(catalog.link(node.scale_up), node.scale_up_group)
        return HierarchicalFabric(inner, Fabric(pcie, -(-ranks // node.scale_up_group)))
    inside = tensor_fabric(node, max(node.gpus, node.scale_up_group), network)
    inner = inside if isinstance(inside, Fabric) else inside.inner
    return HierarchicalFabric(inner, Fabric(_network(node, network), -(-ranks // inner.ranks)))


def _scale_up(node: NodeSpec, name: str, ranks: int) -> LinkSpec:
    """What `ranks` neighbours of a scale-up group have for each other: in a mesh, only the links between them."""
    link = catalog.link(name)
    if link.topology != "mesh" or ranks == 1:
        return link
    peer = link.peer_bandwidth_bytes_per_s or link.bandwidth_bytes_per_s / (node.scale_up_group - 1)
    share = min(link.bandwidth_bytes_per_s, (ranks - 1) * peer)
    return link.model_copy(update={"bandwidth_bytes_per_s": share})


def _network(node: NodeSpec, name: str | None) -> LinkSpec:
    """A GPU's share of its node's cards, as a link."""
    if not node.nics:
        raise FleetcastError(f"cluster.node: {node.name} has no network card; keep a replica inside one node")
    card = catalog.nic(node.nic)
    link = catalog.link(name or card.link)
    share = min(link.bandwidth_bytes_per_s, card.bandwidth_bytes_per_s) * min(1.0, node.nics / node.gpus)
    return link.model_copy(update={"bandwidth_bytes_per_s": share})


def _stage(
    architecture: ModelArchitecture,
    device: Device,
    fabric: AnyFabric,
    profile: Framework,
    dtypes: Dtypes,
    tp: int,
    layers: LayerRange,
    last: bool,
) -> StageCost:
    rows = RowCosts(
        lambda tokens: token_operators(architecture, tokens, tp, layers, dtypes),
        lambda samples: head_operators(architecture, samples, tp, dtypes) if last else [],
        device,
        fabric,
    )
    shapes = attention_shapes(architecture, tp, layers)
    windows = {shape.window for shape in shapes if shape.window}
    if len(windows) > 1:
        raise FleetcastError(
            f"model.config: {architecture.name} mixes sliding windows {sorted(windows)}; one is supported"
        )
    decode = [
        AttentionCost.of(device, s.layers, s.decode_op(sequences=1.0, kv_tokens=1.0, dtypes=dtypes), bool(s.window))
        for s in shapes
    ]
    prefill = [
        AttentionCost.of(
            device, s.layers, s.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, dtypes=dtypes), bool(s.window)
        )
        for s in shapes
    ]
    eager_s = profile.kernels_per_layer * profile.launch_s * (layers.stop - layers.start)
    first = layers.start == 0
    return StageCost(
        rows,
        decode,
        prefill,
        windows.pop() if windows else 0,
        profile.host_s_per_step if first else 0.0,
        profile.host_s_per_sequence if first else 0.0,
        eager_s,
        0.0 if profile.decode_graphs else eager_s,
    )


def _transfer(
    node: NodeSpec, serving: ServingSection, scenario: Scenario, architecture: ModelArchitecture, dtypes: Dtypes
) -> Callable[[int], float]:
    """Sending a micro-batch's hidden states to the next stage; each tensor-parallel rank sends its share."""
    tp, pp = serving.tensor_parallel_size, serving.pipeline_parallel_size
    if pp == 1:
        return lambda _rows: 0.0
    ranks = tp * pp
    if node.scale_up is not None and ranks <= node.scale_up_group:
        link = _scale_up(node, node.scale_up, 2)
    elif ranks <= node.gpus:
        link = catalog.link(node.pcie)
    else:
        link = _network(node, scenario.cluster.network)
    fabric = Fabric(link, 2)
    row_bytes = architecture.hidden_size * bytes_per_element(
        "bf16" if dtypes.activation == "fp8" else dtypes.activation
    )
    fixed = float(fabric.seconds("send_recv", np.zeros(1))[0])
    per_row = row_bytes / tp / fabric.bytes_per_s
    return lambda rows: fixed + per_row * rows


def _widest_mlp(architecture: ModelArchitecture) -> int:
    """Widest dense or per-token expert projection of any layer."""
    widths = []
    for group in architecture.groups:
        mlp = group.mlp
        if isinstance(mlp, DenseMlp):
            widths.append(mlp.intermediate_size)
        else:
            widths.append(mlp.top_k * mlp.expert_intermediate_size + mlp.shared_intermediate_size)
    return max(widths)
