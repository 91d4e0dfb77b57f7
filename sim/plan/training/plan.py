"""One training plan: a layout with its schedule, recomputation and sharding, as scenarios write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.section import PolicyChoice
from sim.training_scenario import TrainingScenario, TrainingSection

SPLITS = {  # of layers over stages: whether the embedding, and the head, count as a layer
    "even": (False, False),
    "ends": (True, True),
    "head": (False, True),
}
BALANCED = "balanced"  # the slowest stage as fast as can be: tried on the best plans
DISTURBANCES = {"jitter_fraction": 0.0, "slow_gpus": [], "slow_cards": []}  # plans are compared without


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy by name, with its keys: a `PolicyChoice` that can be compared and hashed."""

    name: str
    keys: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, choice: PolicyChoice) -> Choice:
        """The same as a scenario has it."""
        return cls(choice.name, tuple(sorted(choice.keys.items())))

    @property
    def policy(self) -> PolicyChoice:
        """The same as a scenario has it."""
        return PolicyChoice(name=self.name, **dict(self.keys))

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key} {value}" for key, value in self.keys)])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a search chooses; everything else is as the scenario has it."""

    nodes: int
    gpus: int  # of those nodes
    tp: int
    pp: int
    dp: int
    cp: int
    ep: int
    micro_batch: int
    schedule: Choice
    recompute: Choice
    sharding: Choice
    sequence_parallel: bool
    split: str | None  # of SPLITS, or BALANCED; None: as the scenario has it

    @property
    def used_gpus(self) -> int:
        """Those that train."""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def chunks(self) -> int:
        """Model chunks a device holds, as far as the schedule has that key."""
        return int(dict(self.schedule.keys).get("chunks", 1))

    @property
    def cut(self) -> tuple[Any, ...]:
        """What the prices of layers depend on."""
        return self.tp, self.cp, self.ep, self.micro_batch, self.sequence_parallel, self.recompute

    @property
    def name(self) -> str:
        """In a table."""
        interleaved = f" x{self.chunks}" if self.chunks > 1 else ""
        parts = [f"TP{self.tp} PP{self.pp} DP{self.dp}"]
        parts += [f"CP{self.cp}"] if self.cp > 1 else []
        parts += [f"EP{self.ep}"] if self.ep > 1 else []
        parts += [f"micro-batch {self.micro_batch}", f"{self.schedule.name}{interleaved}"]
        parts += ["recompute " + str(self.recompute), str(self.sharding)]
        parts += ["SP"] if self.sequence_parallel else []
        parts += [f"split {self.split}"] if self.split in ("ends", "head", BALANCED) else []
        return ", ".join(parts)

    def scenario(self, base: TrainingScenario) -> TrainingScenario:
        """A scenario that runs it on a cluster whose GPUs are all alike."""
        keys: dict[str, Any] = {
            "tensor_parallel_size": self.tp,
            "pipeline_parallel_size": self.pp,
            "data_parallel_size": None if self.used_gpus == self.gpus else self.dp,
            "context_parallel_size": self.cp,
            "expert_parallel_size": self.ep,
            "micro_batch_size": self.micro_batch,
            "sequence_parallel": self.sequence_parallel,
            "schedule": self.schedule.policy,
            "recompute": self.recompute.policy,
            "sharding": self.sharding.policy,
            **DISTURBANCES,
        }
        if self.split is not None:
            first, last = SPLITS.get(self.split, (False, False))
            keys |= {
                "layers_per_stage": BALANCED if self.split == BALANCED else None,
                "account_for_embedding_in_pipeline_split": first,
                "account_for_loss_in_pipeline_split": last,
            }
        cluster = base.cluster.model_copy(update={"nodes": self.nodes})
        training = base.training.model_copy(update=keys)
        return base.model_copy(update={"cluster": cluster, "training": training})


def own_plan(scenario: TrainingScenario, gpus: int, dp: int) -> TrainingPlan:
    """The plan that a scenario writes down, on its GPUs, with so many copies of the model."""
    training: TrainingSection = scenario.training
    tp = training.tensor_parallel_size
    return TrainingPlan(
        nodes=scenario.cluster.nodes,
        gpus=gpus,
        tp=tp,
        pp=training.pipeline_parallel_size,
        dp=dp,
        cp=training.context_parallel_size,
        ep=training.expert_parallel_size,
        micro_batch=training.micro_batch_size,
        schedule=Choice.of(training.schedule),
        recompute=Choice.of(training.recompute),
        sharding=Choice.of(training.sharding),
        sequence_parallel=tp > 1 and training.sequence_parallel is not False,
        split=None,
    )
