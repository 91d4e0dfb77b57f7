"""Runs a block of offloaded inference: the prompt's step and some decoding steps whole, the others between them.

A step's time is convex and piecewise linear in the context that it reads, for it is made of sums and maxima of times
that are; between steps that are run it is taken as linear, so that none is foretold too fast.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import DoesNotFitError
from policies.offload.block_plan import TIERS, Tier
from policies.offload.block_schedule import BlockGraph
from policies.offload.block_tasks import Moved, TurnTasks
from policies.offload.expert_graph import ExpertGraph
from policies.offload.expert_plan import ExpertPlan
from policies.offload.flash_graph import FlashGraph
from policies.offload.flash_plan import FlashPlan
from policies.offload.storage_attention import StorageGraph, StoragePlan
from policies.offload.sweeps import SweepGraph, SweepPlan
from policies.task_graph import TaskGraph
from sim.graph.executor import execute
from sim.graph.memory import MemoryLedger, Peak
from sim.graph.order import compile_graph
from sim.graph.times import Times
from sim.offload.inference_deployment import InferenceDeployment, deploy_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario

RUN_STEPS = 4  # decoding steps that are run whole
RUN_TOKENS = 40  # the same where what is loaded differs from token to token
OF_SEQUENCES = (
    "kv_cache",
    "streamed cache",
    "activations",
    "workspace",
)  # the rest: weights
NAMES: dict[Tier, str] = {"gpu": "GPU memory", "host": "host memory", "storage": "drives"}


@dataclass(frozen=True, slots=True)
class InferenceRun:
    """One block, run; the first of `steps` is the prompt's, and `weights` says how many steps each stands for."""

    deployment: InferenceDeployment
    graph: TaskGraph
    times: Times
    moved: list[Moved]
    steps: list[int]
    weights: NDArray[np.float64]
    bounds_s: NDArray[np.float64]  # at which steps begin, and the last ends: (steps + 1,)
    peaks: dict[Tier, Peak]
    counts: dict[str, int] = field(default_factory=dict)  # of what is loaded by need: experts, neurons

    @property
    def step_s(self) -> NDArray[np.float64]:
        """Seconds of each step that was run."""
        return np.diff(self.bounds_s)

    @property
    def prefill_s(self) -> float:
        """Until every sequence of the block has its first token."""
        return float(self.step_s[0])

    @property
    def decode_s(self) -> float:
        """All steps after it."""
        return float(self.step_s[1:] @ self.weights[1:])

    @property
    def block_s(self) -> float:
        """Of a block from its prompts to its last tokens."""
        return self.prefill_s + self.decode_s

    @property
    def s_per_sequence(self) -> float:
        """Of a block, over its sequences."""
        return self.block_s / self.deployment.plan.sequences


def simulate_inference(scenario: OffloadedInferenceScenario, *, exact: bool = False) -> InferenceRun:
    """Run a block; raises ImpossibleError for a plan that cannot be, DoesNotFitError for one beyond a tier.

    exact: every decoding step, on SimPy's clock.
    """
    deployment = deploy_inference(scenario)
    if deployment.others:
        deployment = _fastest(deployment)
    return simulate_deployed(deployment, exact=exact)


def _fastest(deployment: InferenceDeployment) -> InferenceDeployment:
    """With the plan, of those that a search proposes, whose sequences take the least time."""
    tried = [replace(deployment, plan=plan, others=()) for plan in (deployment.plan, *deployment.others)]
    return min(tried, key=lambda one: simulate_deployed(one, run_steps=3).s_per_sequence)


def simulate_deployed(
    deployment: InferenceDeployment, *, exact: bool = False, run_steps: int = RUN_STEPS
) -> InferenceRun:
    """The same of a scenario that is deployed; run_steps: decoding steps that are run whole."""
    last = deployment.job.output_tokens - 1
    most = RUN_TOKENS if isinstance(deployment.plan, ExpertPlan | FlashPlan) else run_steps
    steps, weights = _steps(last, last if exact else most)
    writer = writer_of(deployment)
    graph = writer.build(steps)
    times = execute(graph) if exact else compile_graph(graph).times(graph.duration_s)
    usage = MemoryLedger(graph).usage(times)
    peaks = {tier: usage.peak(pool) for pool, tier in enumerate(TIERS)}
    if deployment.scenario.offload.check_memory:
        _check(deployment, peaks)
    bounds = np.array([0.0, *(times.end_s[task] for task in writer.ends)])
    return InferenceRun(deployment, graph, times, writer.moved, steps, weights, bounds, peaks, _counts(writer, weights))


def _counts(writer: TurnTasks, weights: NDArray[np.float64]) -> dict[str, int]:
    """Of a block, steps between those that were run included."""
    ends = [Counter[str](), *writer.counted]
    each = list(zip(weights, ends, ends[1:], strict=False))
    return {name: round(sum(w * (after[name] - before[name]) for w, before, after in each)) for name in writer.counts}


def writer_of(deployment: InferenceDeployment) -> TurnTasks:
    """Who writes the graph of such a plan."""
    job, plan, prices = deployment.job, deployment.plan, deployment.prices
    if isinstance(plan, ExpertPlan):
        return ExpertGraph(job, plan, prices, deployment.scenario.seed)
    if isinstance(plan, FlashPlan):
        return FlashGraph(job, plan, prices, deployment.scenario.seed)
    if isinstance(plan, StoragePlan):
        return StorageGraph(job, plan, prices)
    if isinstance(plan, SweepPlan):
        return SweepGraph(job, plan, prices)
    return BlockGraph(job, plan, prices)


def _steps(last: int, most: int) -> tuple[list[int], NDArray[np.float64]]:
    """Steps to run (0: the prompt, 1 to `last`: decoding), and how many each stands for, linear between them.

    The last stands for itself, for it loads nothing for another.
    """
    if last < 2 or most < 2:
        return list(range(last + 1)), np.ones(last + 1)
    chosen = sorted({round(step) for step in np.linspace(1, last - 1, min(most, last) - 1)})
    every = np.arange(1, last)
    weights = [float(np.interp(every, chosen, row).sum()) for row in np.eye(len(chosen))]
    return [0, *chosen, last], np.array([1.0, *weights, 1.0])


def _check(deployment: InferenceDeployment, peaks: dict[Tier, Peak]) -> None:
    """Say which tier is too small, when, by how much, and what would fit."""
    for tier, peak in peaks.items():
        budget = deployment.budgets[tier]
        if peak.used_bytes <= budget:
            continue
        if tier == "storage":
            deployment.tiers.need_drives()
        owners = ", ".join(f"{name} {size / 1e9:,.1f} GB" for name, size in peak.owners.items())
        raise DoesNotFitError(
            f"offload: {NAMES[tier]} would hold {peak.used_bytes / 1e9:,.1f} GB {peak.t_s:,.3g} s after the start and"
            f" has {budget / 1e9:,.1f} GB, {(peak.used_bytes - budget) / 1e9:,.1f} GB too little ({owners});"
            f" {_remedy(deployment, peak, tier)}, or set offload.check_memory = false to run it all the same"
        )


def _remedy(deployment: InferenceDeployment, peak: Peak, tier: Tier) -> str:
    """How many sequences of a block would fit, or that something must go to another tier."""
    plan = deployment.plan
    weights = sum(size for name, size in peak.owners.items() if name not in OF_SEQUENCES)
    a_sequence = (peak.used_bytes - weights) / plan.sequences
    fit = int((deployment.budgets[tier] - weights) / a_sequence) if a_sequence > 0 else 0
    if fit >= 1:
        return f"about {fit} of {plan.sequences} sequences a block would fit"
    lower = "host memory or drives" if tier == "gpu" else "drives" if tier == "host" else "another tier"
    return f"weights alone take {weights / 1e9:,.1f} GB: move some of them to {lower}"
