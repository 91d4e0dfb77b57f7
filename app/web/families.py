"""The kinds of scenario that pages ask about: each with its model, its page, and the example that it opens on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardware_models.errors import FleetcastError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario, scenario_model
from sim.training_scenario import TrainingScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind."""

    name: str
    title: str  # of its page
    model: type[Scenario] | type[TrainingScenario] | type[OffloadedInferenceScenario]
    default: str  # the shipped scenario that the page opens on
    smaller: str  # what makes a simulation that is too large for the app a smaller one
    under_way: str  # what a simulation does before it can say how far it is
    important: tuple[str, ...]  # keys asked first, in this order; all others by section
    section: str = ""  # that its scenarios have and those of other kinds of the same model have not
    path: str = ""  # of its page; its name, where no other kind is on that page
    choice: str = ""  # what tells it from the other kinds of its page

    @property
    def page(self) -> str:
        """The path of its page."""
        return self.path or self.name

    @property
    def heading(self) -> str:
        """What tells it from all other kinds."""
        return f"{self.title}, {self.choice}" if self.choice else self.title


SERVING = Family(
    name="serving",
    title="Serving",
    model=Scenario,
    default="chat-70b-chunked",
    smaller="shorten the workload (workload.duration_s, workload.num_requests)",
    under_way="drawing the requests",
    important=(
        "model.config",
        "model.weight_dtype",
        "cluster.node",
        "serving.replicas",
        "serving.tensor_parallel_size",
        "serving.max_num_seqs",
        "serving.max_num_batched_tokens",
        "serving.scheduler",
        "workload.trace",
        "workload.rate_scale",
        "workload.duration_s",
        "slo.ttft_s",
        "slo.tbt_s",
    ),
)
TRAINING = Family(
    name="training",
    title="Training",
    model=TrainingScenario,
    default="gpt-175b-64xa100",
    smaller="take fewer micro-batches (training.global_batch_size, training.micro_batch_size)",
    under_way="simulating the step",
    important=(
        "model.config",
        "cluster.node",
        "cluster.nodes",
        "training.global_batch_size",
        "training.micro_batch_size",
        "training.seq_length",
        "training.tensor_parallel_size",
        "training.pipeline_parallel_size",
        "training.schedule",
        "training.sharding",
        "training.recompute",
    ),
)
POWER = Family(
    name="power",
    title="Power",
    model=Scenario,
    default="inference-row-polca",
    smaller=SERVING.smaller,
    under_way=SERVING.under_way,
    important=(
        "model.config",
        "cluster.node",
        "cluster.nodes",
        "serving.replicas",
        "serving.low_priority_replicas",
        "serving.tensor_parallel_size",
        "workload.trace",
        "workload.rate_scale",
        "workload.duration_s",
        "power.provisioned_nodes",
        "power.policy",
        "power.actuation_delay_s",
        "power.gpu_power_limit_w",
        "power.clock_mhz",
    ),
    section="power",
)
OFFLOAD = Family(
    name="offload-training",
    title="Offload",
    model=TrainingScenario,
    default="gpt-13b-4090-fuyou",
    smaller=TRAINING.smaller,
    under_way=TRAINING.under_way,
    important=(
        "model.config",
        "cluster.node",
        "offload.policy",
        "offload.drives",
        "offload.host_memory_bytes",
        "training.global_batch_size",
        "training.micro_batch_size",
        "training.seq_length",
        "training.data_parallel_size",
        "training.recompute",
    ),
    section="offload",
    path="offload",
    choice="training",
)
OFFLOADED_INFERENCE = Family(
    name="offload-inference",
    title=OFFLOAD.title,
    model=OffloadedInferenceScenario,
    default="opt-175b-1xt4-offload",
    smaller="take fewer tokens (workload.output_tokens) or fewer batches in a block (offload.policy)",
    under_way="simulating a block",
    important=(
        "model.config",
        "model.weight_dtype",
        "cluster.node",
        "offload.policy",
        "offload.drives",
        "offload.host_memory_bytes",
        "workload.prompt_tokens",
        "workload.output_tokens",
        "workload.num_requests",
    ),
    section=OFFLOAD.section,
    path=OFFLOAD.path,
    choice="inference",
)
FAMILIES = (SERVING, TRAINING, POWER, OFFLOAD, OFFLOADED_INFERENCE)


def family_of(scenario: AnyScenario | Mapping[str, Any]) -> Family:
    """The kind of a scenario, or of its tables."""
    tables = scenario if isinstance(scenario, Mapping) else scenario.model_dump(exclude_none=True)
    model = scenario_model(scenario) if isinstance(scenario, Mapping) else type(scenario)
    alike = (family for family in FAMILIES if family.model is model)
    return max(alike, key=lambda family: (tables.get(family.section) is not None, not family.section))


def check_family(scenario: AnyScenario, family: Family, origin: str) -> None:
    """Raises FleetcastError for a scenario that another page takes."""
    own = family_of(scenario)
    if own is not family:
        there = f", under {own.choice}" if own.choice else ""
        raise FleetcastError(f"{origin}: is a scenario of {own.name}; open it on the {own.title} page{there}")
