"""An offloaded training made concrete: seconds and bytes of each layer, and the machine as one rank has it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from hardware_models.cpu_kernels import ADAM_BYTES
from hardware_models.device import Device
from hardware_models.errors import ImpossibleError
from hardware_models.ops import Gemm
from hardware_models.tiers import DRAM, Tiers, tiers
from policies.offload import (
    DRIVES,
    GPU,
    HOST,
    OFFLOAD,
    Fuyou,
    LayerWork,
    Machine,
    OffloadPolicy,
    OffloadWork,
    SsdTrain,
    Zo2,
)
from sim.offload.forwards import forwards_alone, layer_bytes, loss_bytes
from sim.policy_choice import make_policy
from sim.section import PolicyChoice
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.optimizer_step import OptimizerStep
from sim.training.stage import StageWork
from sim.training_scenario import TrainingScenario
from workloads.models.architecture import LayerGroup
from workloads.models.matrices import elements, layer_matrices
from workloads.models.stages import LayerRange
from workloads.models.weights import embedding_weights
from workloads.training.ends import head_operators
from workloads.training.layer import layer_operators

PIECES = 4  # of a layer: queries, keys and values; attention's output; the MLP's two products
SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size", "expert_parallel_size")


@dataclass(frozen=True, slots=True)
class OffloadDeployment:
    """Everything a step's graph is made of."""

    training: TrainingDeployment
    tiers: Tiers
    policy: OffloadPolicy
    work: OffloadWork
    machine: Machine
    ranks_in_server: int


def deploy_offload(scenario: TrainingScenario) -> OffloadDeployment:
    """Build it; raises ImpossibleError for a plan that cannot be, UnknownNameError for a name that no catalog has."""
    section = scenario.offload
    if section is None:
        raise ImpossibleError("offload: the scenario has no such section; add [offload] with a policy")
    policy = make_policy("offload.policy", section.policy, OFFLOAD, {})
    for size in SIZES[1:] if isinstance(policy, SsdTrain) else SIZES:  # whose weights stay where they are
        if getattr(scenario.training, size) > 1:
            raise ImpossibleError(f"training.{size}: [offload] trains with copies of the model alone; set it to 1")
    if isinstance(policy, Fuyou | Zo2):  # one chooses what to compute again by itself, one keeps nothing
        full = scenario.training.model_copy(update={"recompute": PolicyChoice(name="full")})
        scenario = scenario.model_copy(update={"training": full})
    training = deploy_training(scenario)
    has = tiers(
        training.node,
        drives=section.drives,
        dram_bytes=section.host_memory_bytes,
        adam=section.cpu_adam_parameters_per_s,
    )
    here = min(training.node.gpus, training.layout.dp * training.layout.tp)
    work = offload_work(training)
    machine = _machine(training, has, here)
    if isinstance(policy, Zo2):
        training = forwards_alone(training)
    return OffloadDeployment(training, has, policy, work, machine, here)


def offload_work(training: TrainingDeployment) -> OffloadWork:
    """Layers of one rank's micro-batch; the token table first, the output projection last."""
    pricer, layers = training.pricer, training.architecture.num_layers
    first = pricer.stage(LayerRange(0, 0, layers), first=True, last=False)
    last = pricer.stage(LayerRange(layers, layers, layers), first=False, last=True)
    table = sum(weight.elements for weight in embedding_weights(training.architecture, training.layout.tp))
    tied = float(table) if training.architecture.tie_word_embeddings else 0.0  # one table, moved and updated once
    ends = [("embedding", first, first.parameters), ("output", last, max(0.0, last.parameters - tied))]
    inner: list[LayerWork] = []
    of_group = {layer: group for group in training.architecture.groups for layer in group.layers}
    cut: dict[LayerGroup, tuple[LayerWork, ...]] = {}
    for index in range(layers):
        group = of_group[index]
        if group not in cut:
            one = pricer.stage(LayerRange(index, index + 1, layers), first=False, last=False)
            layer = _layer("", one, one.parameters, _products(training, group))
            operators = layer_operators(training.architecture, group, training.cut, pricer.kernels)
            cut[group] = _pieces(replace(layer, forward_bytes=layer_bytes(operators)))
        inner += [replace(piece, name=f"layer {index}{piece.name}") for piece in cut[group]]
    table_work, output = (_layer(name, one, parameters, ()) for name, one, parameters in ends)
    # the output's backward follows its forward: nothing of it leaves
    output = replace(output, kept_bytes=0.0, working_bytes=output.working_bytes + output.kept_bytes)
    head = head_operators(training.architecture, training.cut, pricer.kernels, vocabulary=pricer.vocabulary)
    output = replace(output, forward_bytes=loss_bytes(head))
    largest = max((layer_matrices(training.architecture.hidden_size, group) for group in cut), key=elements)
    batches, ranks = training.layout.micro_batches, training.layout.dp
    return OffloadWork((table_work, *inner, output), batches, ranks, PIECES, largest)


def _products(training: TrainingDeployment, group: LayerGroup) -> tuple[tuple[float, float], ...]:
    """Seconds of each product and of attention, and bytes of what it gives."""
    operators = layer_operators(training.architecture, group, training.cut, training.pricer.kernels)
    seconds = [training.pricer.prices.forward(operator).seconds for operator in operators]
    found: list[tuple[float, float]] = []
    for place, operator in enumerate(operators):
        if operator.part == "matrix":
            found.append((seconds[place], operator.output_bytes))
        elif operator.part == "attention_core":  # its output is what the next product keeps
            kept = next((later.saved_bytes for later in operators[place + 1 :] if later.part == "matrix"), 0.0)
            found.append((seconds[place], kept))
    return tuple([*found[:-1], (found[-1][0], 0.0)] if found else [])  # the next layer keeps the last one's output


def _pieces(layer: LayerWork) -> tuple[LayerWork, ...]:
    """A layer in as many pieces as it has matrices: they are fetched, and their gradients leave, one by one."""
    return tuple(
        replace(
            layer,
            name=f" piece {piece}",
            parameters=layer.parameters / PIECES,
            forward_s=layer.forward_s / PIECES,
            backward_s=layer.backward_s / PIECES,
            recompute_s=layer.recompute_s / PIECES,
            kept_bytes=0.0 if piece else layer.kept_bytes,
            products=tuple((seconds / PIECES, size / PIECES) for seconds, size in layer.products),
        )
        for piece in range(PIECES)
    )


def _layer(name: str, one: StageWork, parameters: float, products: tuple[tuple[float, float], ...]) -> LayerWork:
    return LayerWork(
        name=name,
        parameters=parameters,
        forward_s=one.forward.seconds,
        backward_s=one.backward.seconds - one.recompute.seconds,
        recompute_s=one.recompute.seconds,
        kept_bytes=one.activation_bytes,
        working_bytes=one.working_bytes,
        products=products,
    )


def _machine(training: TrainingDeployment, has: Tiers, here: int) -> Machine:
    """One rank's part: what several ranks of a server cross is shared out evenly among them."""
    ways = {way: [has.route(way, gpu) for gpu in range(here)] for way in ("h2d", "d2h")}
    crossing: Counter[str] = Counter()
    for routes in ways.values():
        busiest = Counter(link for route in routes for link in route.links)
        crossing |= busiest
    own = dict.fromkeys((*ways["h2d"][0].links, *ways["d2h"][0].links))
    links = {link: has.links[link] / crossing[link] for link in own}
    links[DRAM] = has.links[DRAM] / here
    drives = has.drives
    return Machine(
        links=links,
        h2d=ways["h2d"][0].links,
        d2h=ways["d2h"][0].links,
        copy_latency_s=ways["h2d"][0].latency_s,
        dram=DRAM,
        read_bytes_per_s=drives.read_bytes_per_s / here if drives else 0.0,
        write_bytes_per_s=drives.sustained_write_bytes_per_s / here if drives else 0.0,
        pageable_bytes_per_s=has.copy_bytes_per_s("d2h", here, pinned=False),
        thread_bytes_per_s=has.rates.thread_bytes_per_s,
        adam_parameters_per_s=has.cpu.adam_parameters_per_s(here) / here,
        adam_bytes=ADAM_BYTES,
        budgets={
            GPU: training.budget_bytes - training.framework.workspace_bytes,
            HOST: has.dram_bytes / here,
            DRIVES: drives.capacity_bytes / here if drives else 0.0,
        },
        host_s=training.framework.host_s_per_step,
        gpu_adam_s=lambda parameters: _gpu_adam_s(training, parameters),
        gather_s=lambda size: _among(training, "all_gather", size),
        reduce_s=lambda size: _among(training, "reduce_scatter", size),
        gpu_touch_s=OptimizerStep(training).seconds,
        gpu_product_s=lambda m, n, k: _product_s(training, m, n, k),
        direct_read_bytes_per_s=has.storage_bytes_per_s(read=True, direct=True) / here if drives else 0.0,
        direct_write_bytes_per_s=has.storage_bytes_per_s(read=False, direct=True) / here if drives else 0.0,
        raw_read_bytes_per_s=drives.raw_read_bytes_per_s / here if drives else 0.0,
        raw_write_bytes_per_s=drives.raw_write_bytes_per_s / here if drives else 0.0,
    )


def _gpu_adam_s(training: TrainingDeployment, parameters: float) -> float:
    step = OptimizerStep(training)
    return step.seconds(step.moved_bytes(parameters, parameters))


def _product_s(training: TrainingDeployment, m: float, n: float, k: float) -> float:
    dtype = training.cut.dtype
    return float(Device(training.gpu).price(Gemm(m=m, n=int(n), k=int(k), dtype=dtype, weight_dtype=dtype)).seconds)


def _among(training: TrainingDeployment, collective: Literal["all_gather", "reduce_scatter"], size: float) -> float:
    fabric = training.data_fabric
    return 0.0 if fabric is None else float(fabric.seconds(collective, size))
