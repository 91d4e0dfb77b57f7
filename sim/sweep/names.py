"""Names in a scenario that only a run would look up, looked up before: hardware, model, engine, policies, workload."""

from __future__ import annotations

from pathlib import Path

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.framework import framework
from hardware_models.training_framework import training_framework
from policies.checkpoint import CHECKPOINT
from policies.offload import OFFLOAD
from policies.offload.inference_policies import INFERENCE_OFFLOAD
from policies.parallelism import RECOMPUTE, SCHEDULES, SHARDING
from policies.parallelism.activation_offload import ACTIVATION_OFFLOAD
from policies.parallelism.gradient_reduce import GRADIENT_REDUCE
from policies.parallelism.mapping import NODE_MAPPINGS
from policies.parallelism.optimizers import OPTIMIZERS
from policies.serving import ROUTERS
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.policy_choice import make_policy
from sim.scenario import ClusterSection, WorkloadSection
from sim.scenario_file import AnyScenario
from sim.serving.deployment import deploy
from sim.serving.simulate import make_scheduler
from sim.training.power_smoothing import smoothing_of
from sim.training.stage_clocks import clocks_policy
from sim.training_scenario import TrainingScenario, TrainingSection
from workloads.generators import make_generator
from workloads.models.catalog import model
from workloads.traces.catalog import catalog_names
from workloads.training.context import CONTEXT


def check_names(scenario: AnyScenario) -> None:
    """Raise FleetcastError for a name that nothing has, or for a policy's key that it does not know.

    A deployment that cannot be is no matter of names, and passes.
    """
    _check_cluster(scenario.cluster)
    model(scenario.model.config)
    if isinstance(scenario, OffloadedInferenceScenario):
        make_policy("offload.policy", scenario.offload.policy, INFERENCE_OFFLOAD, {})
        return
    if scenario.energy is not None:
        scenario.energy.check_names()
    if isinstance(scenario, TrainingScenario):
        _check_training(scenario.training)
        if scenario.offload is not None:
            make_policy("offload.policy", scenario.offload.policy, OFFLOAD, {})
        if scenario.checkpoint is not None:
            make_policy("checkpoint.policy", scenario.checkpoint.policy, CHECKPOINT, {})
        smoothing_of(scenario)
        clocks_policy(scenario)
        return
    framework(scenario.serving.engine)
    make_policy("serving.router", scenario.serving.router, ROUTERS, {})
    _check_workload(scenario.workload)
    try:
        deployment = deploy(scenario)
    except FleetcastError:
        return
    make_scheduler(scenario, deployment)


def _check_training(training: TrainingSection) -> None:
    training_framework(training.framework)
    make_policy("training.schedule", training.schedule, SCHEDULES, {})
    make_policy("training.sharding", training.sharding, SHARDING, {})
    make_policy("training.recompute", training.recompute, RECOMPUTE, {})
    make_policy("training.gradient_reduce", training.gradient_reduce, GRADIENT_REDUCE, {})
    make_policy("training.context_parallel", training.context_parallel, CONTEXT, {})
    make_policy("training.node_mapping", training.node_mapping, NODE_MAPPINGS, {})
    make_policy("training.optimizer", training.optimizer, OPTIMIZERS, {})
    make_policy("training.activation_offload", training.activation_offload, ACTIVATION_OFFLOAD, {})


def _check_cluster(cluster: ClusterSection) -> None:
    if not cluster.node.endswith(".toml") and cluster.node not in (nodes := catalog.names("nodes")):
        raise UnknownNameError("cluster.node", cluster.node, nodes)
    catalog.gpu(catalog.node(cluster.node).gpu)
    if cluster.network is not None and cluster.network not in (links := catalog.names("links")):
        raise UnknownNameError("cluster.network", cluster.network, links)


def _check_workload(workload: WorkloadSection) -> None:
    if workload.generator is not None:
        make_generator(workload.generator)
        return
    trace = workload.trace or ""
    if trace in catalog_names():
        return
    if "/" not in trace:
        raise UnknownNameError("workload.trace", trace, catalog_names())
    if not Path(trace).is_file():
        raise FleetcastError(f"workload.trace: {trace}: no such file; give a trace file, or a name of the catalog")
