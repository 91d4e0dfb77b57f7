"""From a scenario to engines: which fabric joins the ranks, what each stage computes, how much memory KV has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hardware_models import catalog
from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.framework import Framework, framework
from hardware_models.ops import Collective, DeviceOp
from hardware_models.own_figures import own_figures
from hardware_models.provenance import worst_grade
from hardware_models.specs import GpuSpec, LinkSpec, NodeSpec
from hardware_models.topology.groups import network_link, scale_up_link, tensor_fabric
from sim.scenario import Scenario, ServingSection
from sim.serving.attention_cost import DecodeCost, PrefillCost
from sim.serving.kv_setup import tier_grade, tier_limits
from sim.serving.lane import Limits
from sim.serving.memory import GIB, MemoryPlan, activation_peak_bytes, plan_memory
from sim.serving.row_costs import RowCosts
from sim.serving.step_cost import StageCost
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
class Shape:
    """Replicas of one tensor-parallel size: numbers `first` to `first + replicas - 1`."""

    deployment: Deployment
    first: int
    replicas: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """One kind of replica, ready to run; all replicas of a scenario share it, but for those of other shapes."""

    architecture: ModelArchitecture
    gpu: GpuSpec
    node: NodeSpec
    profile: Framework
    dtypes: Dtypes
    stages_at: Callable[[float], list[StageCost]]  # at a core clock, a share of boost
    transfer_s: Callable[[int], float]  # rows -> seconds between two pipeline stages
    limits: Limits
    memory: MemoryPlan
    gpus_per_replica: int
    gpus_total: int
    grades: dict[str, str]  # what the times rest on -> measured, quoted or assumed
    extrapolated: tuple[str, ...] = ()  # operators larger or smaller than any their kernels were measured on
    own_figures: dict[str, str] = field(default_factory=dict)  # of the user's own hardware: figure -> what it is
    others: tuple[Shape, ...] = ()  # replicas of other tensor-parallel sizes, on the same GPUs at other times

    @property
    def stages(self) -> list[StageCost]:
        """At boost."""
        return self.stages_at(1.0)


def deploy(scenario: Scenario) -> Deployment:
    """Build it; raises ImpossibleError for a plan that cannot be, DoesNotFitError (one of these) for one too large."""
    serving, model = scenario.serving, scenario.model
    architecture = load_model(model.config)
    node = catalog.node(scenario.cluster.node)
    gpu = catalog.gpu(node.gpu)
    profile = framework(serving.engine)
    dtypes = Dtypes(weight=model.weight_dtype, activation=model.compute_dtype, kv_cache=model.kv_cache_dtype)
    tp, pp = serving.tensor_parallel_size, serving.pipeline_parallel_size
    _check_gpus(scenario, node)
    check_tensor_parallel(architecture, tp)
    _check_stages(architecture, pp)
    device, network = Device(gpu), scenario.cluster.network
    fabric = tensor_fabric(node, tp, network)
    layers = split_layers(architecture.num_layers, pp)

    @functools.cache
    def stages_at(clock: float) -> list[StageCost]:
        tables = [_tables(architecture, gpu, fabric, dtypes, tp, part, clock) for part in layers]
        return [_stage(table, profile, part) for table, part in zip(tables, layers, strict=True)]

    heaviest = max(layers, key=lambda part: weight_bytes(architecture, model.weight_dtype, tp=tp, layers=part))
    kv_bytes = [kv_bytes_per_token(architecture, model.kv_cache_dtype, tp=tp, layers=part) for part in layers]
    memory = plan_memory(
        device_bytes=gpu.memory_bytes,
        weight_bytes=weight_bytes(architecture, model.weight_dtype, tp=tp, layers=heaviest),
        activation_bytes=activation_peak_bytes(architecture, model, serving, _widest_mlp(architecture)),
        kv_bytes_per_token=max(kv_bytes),
        framework=profile,
        serving=serving,
        where=f"{architecture.name} ({model.weight_dtype}, TP{tp}, PP{pp}) on {gpu.name}",
    )
    limits = _limits(node, serving, memory, stages_at(1.0)[0].window, tp * sum(kv_bytes))
    links = (fabric_links(fabric) if tp > 1 else []) + ([_stage_link(node, serving, scenario)] if pp > 1 else [])
    grades = _grades(architecture, device, profile, dtypes, links)
    if limits.tiers:
        grades["tiers"] = tier_grade(node)
    return Deployment(
        architecture, gpu, node, profile, dtypes, stages_at, _transfer(node, serving, scenario, architecture, dtypes),
        limits, memory, tp * pp, node.gpus * scenario.cluster.nodes, grades,
        _extrapolated(architecture, device, dtypes, tp), own_figures(node),
    )  # fmt: skip


def _extrapolated(architecture: ModelArchitecture, device: Device, dtypes: Dtypes, tp: int) -> tuple[str, ...]:
    """Names of operators whose weights are of a size that their kernel's calibration did not see."""
    everything, rows = LayerRange(0, architecture.num_layers, architecture.num_layers), 64.0
    operators = token_operators(architecture, rows, tp, everything, dtypes)
    operators += head_operators(architecture, rows, tp, dtypes)
    names = (o.name for o in operators if not isinstance(o.op, Collective) and bool(np.any(device.outside(o.op))))
    return tuple(dict.fromkeys(names))


def _grades(
    architecture: ModelArchitecture, device: Device, profile: Framework, dtypes: Dtypes, links: list[LinkSpec]
) -> dict[str, str]:
    """The worst of the kinds of kernels that the model runs, of the software, and of the links in use, if any."""
    everything = LayerRange(0, architecture.num_layers, architecture.num_layers)
    operators = token_operators(architecture, 1.0, 1, everything, dtypes) + head_operators(architecture, 1.0, 1, dtypes)
    shapes = attention_shapes(architecture, 1, everything)
    ops: list[DeviceOp] = [operator.op for operator in operators if not isinstance(operator.op, Collective)]
    for mixed in (False, True) if _packs_decoding_apart(device) else (False,):
        ops += [shape.decode_op(sequences=1.0, kv_tokens=1.0, dtypes=dtypes, mixed=mixed) for shape in shapes]
    ops += [shape.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, dtypes=dtypes) for shape in shapes]
    grades = {
        "operators": worst_grade(device.kernel(op).grade for op in ops),
        "software": profile.source["default"].grade,
    }
    if links:
        grades["links"] = worst_grade(Fabric(link, 2).source.grade for link in links)
    return grades


def fabric_links(fabric: AnyFabric) -> list[LinkSpec]:
    """The kinds of links that a collective crosses."""
    return [fabric.inner.link, fabric.outer.link] if isinstance(fabric, HierarchicalFabric) else [fabric.link]


def _check_gpus(scenario: Scenario, node: NodeSpec) -> None:
    serving = scenario.serving
    need = serving.replicas * serving.tensor_parallel_size * serving.pipeline_parallel_size
    have = node.gpus * scenario.cluster.nodes
    if need > have:
        raise ImpossibleError(
            f"serving.replicas = {serving.replicas} x tensor_parallel_size = {serving.tensor_parallel_size} x"
            f" pipeline_parallel_size = {serving.pipeline_parallel_size} need {need} GPUs; cluster.nodes ="
            f" {scenario.cluster.nodes} x {node.name} has {have}"
        )


def _check_stages(architecture: ModelArchitecture, stages: int) -> None:
    if stages > architecture.num_layers:
        raise ImpossibleError(
            f"serving.pipeline_parallel_size = {stages}: {architecture.name} has {architecture.num_layers} layers;"
            " give at most one stage a layer"
        )


def _limits(node: NodeSpec, serving: ServingSection, memory: MemoryPlan, window: int, token_bytes: float) -> Limits:
    """KV blocks on the GPU, beside it where sequences are swapped out over its host link, and in the tiers below.

    token_bytes: a token's KV over all GPUs.
    """
    host_bytes_per_s = Fabric(catalog.link(node.pcie), 2).bytes_per_s
    return Limits(
        kv_blocks=memory.kv_blocks,
        block_size=serving.block_size,
        swap_blocks=int(serving.swap_space_gib * GIB // memory.block_bytes),
        swap_block_s=memory.block_bytes / host_bytes_per_s,
        window=window,
        tiers=tier_limits(node, serving, memory.block_bytes, token_bytes * serving.block_size),
    )


def _stage(tables: _Tables, profile: Framework, layers: LayerRange) -> StageCost:
    eager_s = profile.kernels_per_layer * profile.launch_s * (layers.stop - layers.start)
    first = layers.start == 0
    return StageCost(
        tables.rows,
        tables.decode,
        tables.prefill,
        tables.window,
        profile.host_s_per_step if first else 0.0,
        profile.host_s_per_sequence if first else 0.0,
        eager_s,
        0.0 if profile.decode_graphs else eager_s,
        profile.host_sigma,
        tables.mixed_decode,
    )


@dataclass(frozen=True, slots=True)
class _Tables:
    """Prices of a stage's operators; they fill as sizes are met, with the same numbers in whatever order."""

    rows: RowCosts
    decode: list[DecodeCost]
    mixed_decode: list[DecodeCost]
    prefill: list[PrefillCost]
    window: int


@functools.lru_cache(maxsize=128)
def _tables(
    architecture: ModelArchitecture,
    gpu: GpuSpec,
    fabric: AnyFabric,
    dtypes: Dtypes,
    tp: int,
    layers: LayerRange,
    clock: float,
) -> _Tables:
    """Of a stage; runs that differ in software, policy or load share them."""
    device, last = Device(gpu, clock), layers.stop == architecture.num_layers
    rows = RowCosts(
        lambda tokens: token_operators(architecture, tokens, tp, layers, dtypes),
        lambda samples: head_operators(architecture, samples, tp, dtypes) if last else [],
        device,
        fabric,
    )
    shapes = attention_shapes(architecture, tp, layers)
    windows = {shape.window for shape in shapes if shape.window}
    if len(windows) > 1:
        raise ImpossibleError(
            f"model.config: {architecture.name} mixes sliding windows {sorted(windows)}; one is supported"
        )
    alone = [DecodeCost(device, shape, dtypes) for shape in shapes]
    mixed = [DecodeCost(device, shape, dtypes, mixed=True) for shape in shapes]
    if not _packs_decoding_apart(device):
        mixed = alone
    prefill = [PrefillCost(device, shape, dtypes) for shape in shapes]
    return _Tables(rows, alone, mixed, prefill, windows.pop() if windows else 0)


def _packs_decoding_apart(device: Device) -> bool:
    """Does decoding beside a prompt's chunk run other code? FlashAttention-3, on Hopper, runs mixed batches alike."""
    return device.spec.architecture != "hopper"


def _stage_link(node: NodeSpec, serving: ServingSection, scenario: Scenario) -> LinkSpec:
    """What joins two pipeline stages: the closest link that all ranks of a replica share."""
    ranks = serving.tensor_parallel_size * serving.pipeline_parallel_size
    if node.scale_up is not None and ranks <= node.scale_up_group:
        return scale_up_link(node, node.scale_up, 2)
    if ranks <= node.gpus:
        return catalog.link(node.pcie)
    return network_link(node, scenario.cluster.network)


def _transfer(
    node: NodeSpec, serving: ServingSection, scenario: Scenario, architecture: ModelArchitecture, dtypes: Dtypes
) -> Callable[[int], float]:
    """Sending a micro-batch's hidden states to the next stage; each tensor-parallel rank sends its share."""
    if serving.pipeline_parallel_size == 1:
        return lambda _rows: 0.0
    fabric = Fabric(_stage_link(node, serving, scenario), 2)
    row_bytes = architecture.hidden_size * bytes_per_element(
        "bf16" if dtypes.activation == "fp8" else dtypes.activation
    )
    fixed = float(fabric.seconds("send_recv", np.zeros(1))[0])
    per_row = row_bytes / serving.tensor_parallel_size / fabric.bytes_per_s
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
