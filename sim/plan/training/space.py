"""The space that a training plan is searched in: every layout that the model, the batch and the cluster allow.

What the scenario's [training] section says stays as it is, unless it is freed; what it leaves out is searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from policies.parallelism import SCHEDULES
from policies.parallelism import SHARDING as shardings  # noqa: N811
from policies.parallelism.schedules.breadth_first import BreadthFirst
from policies.parallelism.schedules.interleaved import Interleaved
from sim.plan.training.plan import SPLITS, Choice, TrainingPlan
from sim.training.choices import trained_model
from sim.training_scenario import TrainingScenario
from workloads.models.architecture import AttentionSpec, DenseMlp, LayerGroup, ModelArchitecture, MoeMlp

KEYS = (  # of [training], that a search may choose
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "context_parallel_size",
    "expert_parallel_size", "micro_batch_size", "sequence_parallel", "schedule", "recompute", "sharding",
    "node_mapping",
)  # fmt: skip
SPLIT_KEYS = ("layers_per_stage", "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split")
RUN_BY_FRAMEWORKS = ("1f1b", "interleaved_1f1b")  # Megatron-LM's own
RECOMPUTE = ("none", "selective", "full")
SHARDING = ("none", "zero1", "zero2", "zero3")
WITH_PIPELINES = ("none", "zero1")  # frameworks that have pipelines keep weights and gradients whole between them
MOST_MICRO_BATCH = 16
POWERS = tuple(2**n for n in range(11))
MOST_NODES_A_LAYER = 4  # that tensor-parallel ranks of a layer are spread over
LEAST_TOKENS = 8192  # of a sequence on one GPU, where context-parallel GPUs share it


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpace:
    """What may be chosen; None: all that makes sense."""

    free: frozenset[str] = frozenset()  # keys to search though the scenario gives them
    gpus: tuple[int, ...] | None = None  # None: all of the scenario's cluster
    tensor_parallel_sizes: tuple[int, ...] | None = None
    pipeline_parallel_sizes: tuple[int, ...] | None = None
    micro_batch_sizes: tuple[int, ...] | None = None
    schedules: tuple[str, ...] = RUN_BY_FRAMEWORKS
    shardings: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for key in self.free - {"all"}:
            if key not in KEYS:
                raise UnknownNameError("--free", key, (*KEYS, "all"))
        for name in self.schedules:
            if name not in SCHEDULES:
                raise UnknownNameError("--schedules", name, SCHEDULES)
        for name in self.shardings or ():
            if name not in shardings:
                raise UnknownNameError("--sharding", name, shardings)
        for key in ("tensor_parallel_sizes", "pipeline_parallel_sizes", "micro_batch_sizes"):
            for value in getattr(self, key) or ():
                if value < 1:
                    raise FleetcastError(f"{key} = {value}: give whole numbers of at least 1")

    def fixed(self, scenario: TrainingScenario) -> list[str]:
        """Keys that stay as the scenario has them."""
        if "all" in self.free:
            return []
        given = scenario.training.model_fields_set
        return [
            key for key in KEYS
            if key in given and key not in self.free and getattr(scenario.training, key) is not None
        ]  # fmt: skip

    def plans(self, scenario: TrainingScenario) -> list[TrainingPlan]:
        """Every combination that divides, in a fixed order; raises FleetcastError for GPUs that no nodes make up."""
        node = catalog.node(scenario.cluster.node)
        sizes = self.gpus or (node.gpus * scenario.cluster.nodes,)
        for gpus in sizes:
            if gpus < 1 or gpus % node.gpus:
                raise FleetcastError(f"--gpus {gpus}: {node.name} has {node.gpus} GPUs a node; give a multiple")
        writer = _Writer(self, scenario, node.gpus, frozenset(self.fixed(scenario)))
        found = [plan for gpus in dict.fromkeys(sizes) for plan in writer.on(gpus)]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Writer:
    """Combinations for one scenario."""

    space: TrainingSpace
    scenario: TrainingScenario
    node_gpus: int
    fixed: frozenset[str]
    model: ModelArchitecture = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", trained_model(self.scenario))

    def on(self, gpus: int) -> Iterator[TrainingPlan]:
        """All plans for so many GPUs; those that share the prices of layers follow one another."""
        for tp, cp, ep, mb in product(self._tensor(gpus), self._context(), self._experts(), self._micro_batches()):
            if self.scenario.training.seq_length % (cp * tp):
                continue
            for parallel, recompute in product(self._norms(tp), self._recompute()):
                common = {
                    "nodes": gpus // self.node_gpus, "gpus": gpus, "tp": tp, "cp": cp, "ep": ep, "micro_batch": mb,
                    "recompute": recompute, "sequence_parallel": parallel,
                }  # fmt: skip
                yield from self._pipelines(common, gpus // (tp * cp))

    def _pipelines(self, common: dict[str, Any], most: int) -> Iterator[TrainingPlan]:
        """With so many GPUs for stages and copies."""
        ranks, mb = common["tp"] * common["cp"], common["micro_batch"]
        for pp in self._pipeline(most):
            dp = self._data(most // pp, mb)
            experts = common["ep"] * (self.scenario.training.expert_tensor_parallel_size or common["tp"])
            if dp is None or (ranks * dp) % experts:
                continue
            micro_batches = self.scenario.training.global_batch_size // (mb * dp)
            for (schedule, split), sharding in product(
                self._schedules(pp, micro_batches), self._sharding(dp * common["cp"], pp)
            ):
                yield TrainingPlan(**common, pp=pp, dp=dp, schedule=schedule, sharding=sharding, split=split)

    def _tensor(self, gpus: int) -> list[int]:
        """Sizes that divide heads and MLP, and a node or by a node."""
        training = self.scenario.training
        if "tensor_parallel_size" in self.fixed:
            return [training.tensor_parallel_size]
        most = min(gpus, MOST_NODES_A_LAYER * self.node_gpus)
        sizes = self.space.tensor_parallel_sizes or [
            n for n in range(1, most + 1) if self.node_gpus % n == 0 or n % self.node_gpus == 0
        ]
        return [n for n in sizes if n <= gpus and all(_divides(n, group) for group in self.model.groups)]

    def _context(self) -> list[int]:
        """GPUs that share a sequence: worth it for long ones alone."""
        training = self.scenario.training
        if "context_parallel_size" in self.fixed or training.context_parallel_size > 1:
            return [training.context_parallel_size]
        return [n for n in POWERS if n == 1 or training.seq_length >= n * LEAST_TOKENS]

    def _experts(self) -> list[int]:
        """GPUs that share the experts of a layer."""
        training = self.scenario.training
        counts = [group.mlp.experts for group in self.model.groups if isinstance(group.mlp, MoeMlp)]
        if "expert_parallel_size" in self.fixed or not counts:
            return [training.expert_parallel_size]
        return [n for n in POWERS if all(count % n == 0 for count in counts)]

    def _pipeline(self, most: int) -> list[int]:
        """Stages that divide the GPUs left, or the layers."""
        training, layers = self.scenario.training, self.model.num_layers
        if "pipeline_parallel_size" in self.fixed:
            given = training.pipeline_parallel_size
            return [given] if given <= most else []
        sizes = self.space.pipeline_parallel_sizes or [
            n for n in range(1, layers + 1) if most % n == 0 or layers % n == 0
        ]
        return [n for n in sizes if n <= min(most, layers)]

    def _micro_batches(self) -> list[int]:
        training = self.scenario.training
        if "micro_batch_size" in self.fixed:
            return [training.micro_batch_size]
        sizes = self.space.micro_batch_sizes or range(1, MOST_MICRO_BATCH + 1)
        return [n for n in sizes if training.global_batch_size % n == 0]

    def _data(self, most: int, micro_batch: int) -> int | None:
        """Most copies of the model that GPUs make and the batch divides into; None where there are none."""
        training = self.scenario.training
        steps, rest = divmod(training.global_batch_size, micro_batch)
        if rest:
            return None
        if "data_parallel_size" in self.fixed and training.data_parallel_size is not None:
            given = training.data_parallel_size
            return given if given <= most and steps % given == 0 else None
        return max((n for n in range(1, most + 1) if steps % n == 0), default=None)

    def _schedules(self, pp: int, micro_batches: int) -> list[tuple[Choice, str | None]]:
        """Schedules with every number of chunks, each with a way to split the layers."""
        if "schedule" in self.fixed:
            own = self.scenario.training.schedule
            chunks = SCHEDULES[own.name](**own.keys).chunks if own.name in SCHEDULES else 1
            return [(Choice.of(own), split) for split in self._splits(pp * chunks)]
        found: list[tuple[Choice, str | None]] = []
        for name in self.space.schedules:
            kind = SCHEDULES[name]
            if issubclass(kind, Interleaved | BreadthFirst):
                if pp == 1 or (issubclass(kind, Interleaved) and micro_batches % pp):
                    continue
                for chunks in range(2, self.model.num_layers // pp + 2):
                    splits = self._splits(pp * chunks, exactly=True)
                    found += [(Choice(name, (("chunks", chunks),)), split) for split in splits]
            elif pp > 1 or name == "1f1b":
                found += [(Choice(name), split) for split in self._splits(pp * kind().chunks)]
        return found

    def _splits(self, stages: int, *, exactly: bool = False) -> list[str | None]:
        """Ways to split the layers so that all stages are alike but for the ends; else, unless `exactly`, the even one
        with layers left over.
        """
        training, layers = self.scenario.training, self.model.num_layers
        if isinstance(training.layers_per_stage, list):
            return [None] if len(training.layers_per_stage) == stages else []
        if any(getattr(training, key) for key in SPLIT_KEYS):
            return [None]
        if layers % stages == 0:
            return ["even"]
        found: list[str | None] = [
            name for name, ends in SPLITS.items() if (layers + sum(ends)) % stages == 0 and layers + sum(ends) > stages
        ]
        return found or ([] if exactly or layers < stages else ["even"])

    def _recompute(self) -> list[Choice]:
        if "recompute" in self.fixed:
            return [Choice.of(self.scenario.training.recompute)]
        return [Choice(name) for name in RECOMPUTE]

    def _sharding(self, copies: int, pp: int) -> list[Choice]:
        if "sharding" in self.fixed:
            return [Choice.of(self.scenario.training.sharding)]
        names = self.space.shardings or (SHARDING if pp == 1 else WITH_PIPELINES)
        return [Choice(name) for name in (names if copies > 1 else names[:1])]

    def _norms(self, tp: int) -> list[bool]:
        """With sequence parallelism, and without where there are no experts to send rows to."""
        if tp > 1 and any(isinstance(group.mlp, MoeMlp) for group in self.model.groups):
            return [True]
        if "sequence_parallel" in self.fixed:
            return [tp > 1 and bool(self.scenario.training.sequence_parallel)]
        return [True, False] if tp > 1 else [False]


def _divides(tp: int, group: LayerGroup) -> bool:
    """As `policies.parallelism.check_layout` has it, which judges what is evaluated."""
    attention, mlp = group.attention, group.mlp
    kv_heads = attention.kv_heads if isinstance(attention, AttentionSpec) else attention.heads
    whole = attention.heads % tp == 0 and (kv_heads % tp == 0 or tp % kv_heads == 0)
    return whole and not (isinstance(mlp, DenseMlp) and mlp.intermediate_size % tp)
