"""The kinds of scenario that pages ask about: each with its model, its page, and the example that it opens on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardware_models.errors import FleetcastError
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario, scenario_model
from sim.training_scenario import TrainingScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind."""

    name: str  # also the path of its page
    title: str  # of that page
    model: type[Scenario] | type[TrainingScenario]
    default: str  # the shipped scenario that the page opens on
    smaller: str  # what makes a simulation that is too large for the app a smaller one
    under_way: str  # what a simulation does before it can say how far it is
    important: tuple[str, ...]  # keys asked first, in this order; all others by section
    section: str = ""  # that its scenarios have and those of other kinds of the same model have not


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
FAMILIES = (SERVING, TRAINING, POWER)


def has_page(tables: Mapping[str, Any]) -> bool:
    """Does a page take scenarios of this kind?"""
    return any(family.model is scenario_model(tables) for family in FAMILIES)


def family_of(scenario: AnyScenario | Mapping[str, Any]) -> Family:
    """The kind of a scenario, or of its tables."""
    tables = scenario if isinstance(scenario, Mapping) else scenario.model_dump(exclude_none=True)
    model = scenario_model(scenario) if isinstance(scenario, Mapping) else type(scenario)
    alike = [family for family in FAMILIES if family.model is model]
    if not alike:
        raise FleetcastError("offload: no page shows offloaded inference yet; use `fleetcast run`")
    return max(alike, key=lambda family: (family.section in tables, not family.section))


def check_family(scenario: AnyScenario, family: Family, origin: str) -> None:
    """Raises FleetcastError for a scenario that another page takes."""
    own = family_of(scenario)
    if own is not family:
        raise FleetcastError(f"{origin}: is a scenario of {own.name}; open it on the {own.title} page")
