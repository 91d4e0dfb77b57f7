"""Plans an offloaded job: every policy's best on the machine there is, and what each addition to it would gain.

What is added need not be used, so that the best plan on a larger machine is never slower: where the old plan stays the
best, the addition gains nothing, and the plan says what the job waits for then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from sim.offload.inference_result import run_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.offload.trainable import Trainable
from sim.plan.offload import inference, training
from sim.plan.offload.machines import Addition, additions
from sim.plan.offload.outcome import OffloadScenario, Outcome, Refusal, Setting, Tried
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A policy's best setting, run whole."""

    outcome: Outcome
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Purchase:
    """An addition, and the best plan with it; tokens_per_s: None where even then nothing runs."""

    addition: Addition
    setting: Setting | None = None
    batch: int | None = None
    tokens_per_s: float | None = None
    bottleneck: str = ""
    largest: Trainable | None = None
    used: bool = False  # the best plan is another than without, or faster


@dataclass(frozen=True, slots=True)
class OffloadPlan:
    """The answer."""

    scenario: OffloadScenario
    ranked: list[Ranked]  # fastest first; empty: nothing runs
    refused: list[Refusal]  # of policies that cannot run, the setting that lacks least
    purchases: list[Purchase]
    largest: Trainable | None  # of a training
    largest_by: Setting | None
    usd_per_gpu_h: float | None  # at list price
    simulations: int
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> OffloadScenario | None:
        """A scenario that runs what is fastest."""
        return self.ranked[0].outcome.scenario if self.ranked else None


def plan_offload(scenario: OffloadScenario, say: Say = lambda _: None) -> OffloadPlan:
    """Plan a scenario with [offload]; raises FleetcastError for one that is wrong, not for one that nothing suits."""
    tried = _try(scenario, _settings(scenario), say)
    ranked = sorted((_whole(one) for one in _bests(tried)), key=lambda one: one.outcome.seconds)
    runs = {one.setting.policy for one in tried.outcomes}
    refused = [
        tried.nearest(name) for name in dict.fromkeys(one.setting.policy for one in tried.refusals) if name not in runs
    ]
    gpu = catalog.gpu(catalog.node(scenario.cluster.node).gpu)
    plan = OffloadPlan(
        scenario, ranked, refused, [], *_largest(scenario, _settings(scenario)),
        catalog.list_price_usd_per_gpu_h(gpu), tried.simulations, _notes(scenario),
    )  # fmt: skip
    return _with_purchases(plan, tried, say)


def tokens_per_s(summary: dict[str, Any]) -> float:
    """What a plan is judged by: tokens trained, or tokens put out."""
    return float(summary["tokens_per_s"] if "tokens_per_s" in summary else summary["output_throughput"])


def _settings(scenario: OffloadScenario) -> list[Setting]:
    if isinstance(scenario, TrainingScenario):
        return training.settings(scenario)
    return inference.settings(scenario)


def _try(scenario: OffloadScenario, chosen: Iterable[Setting], say: Say) -> Tried:
    say(f"trying policies on {Path(scenario.cluster.node).stem}")
    if isinstance(scenario, TrainingScenario):
        return training.try_training(scenario, chosen)
    return inference.try_inference(scenario, chosen)


def _bests(tried: Tried) -> list[Outcome]:
    """Of each policy that runs, the fastest setting."""
    names = dict.fromkeys(one.setting.policy for one in tried.outcomes)
    return [one for name in names if (one := tried.best_of(name)) is not None]


def _whole(outcome: Outcome) -> Ranked:
    """With all figures."""
    return Ranked(outcome, _summary(outcome.scenario))


def _summary(scenario: OffloadScenario) -> dict[str, Any]:
    if isinstance(scenario, OffloadedInferenceScenario):
        return run_inference(scenario).summary
    return run_training(scenario).summary


def _largest(scenario: OffloadScenario, chosen: list[Setting]) -> tuple[Trainable | None, Setting | None]:
    return training.largest(scenario, chosen) if isinstance(scenario, TrainingScenario) else (None, None)


def _with_purchases(plan: OffloadPlan, tried: Tried, say: Say) -> OffloadPlan:
    """What each addition would gain; files of changed servers live as long as this takes."""
    more = 0
    purchases: list[Purchase] = []
    with TemporaryDirectory(prefix="fleetcast-plan-") as folder:
        for addition in additions(plan.scenario, Path(folder)):
            if addition.scenario is None:
                purchases.append(Purchase(addition))
                continue
            say(f"with {addition.name}")
            try:
                on_it = _try(addition.scenario, _worth_it(tried, addition.most), say)
            except ImpossibleError as error:  # a GPU that lacks the number format, say
                purchases.append(Purchase(Addition(addition.kind, addition.name, None, str(error), addition.replaces)))
                continue
            more += on_it.simulations
            purchases.append(_purchase(plan, addition, on_it))
    return OffloadPlan(
        plan.scenario, plan.ranked, plan.refused, purchases, plan.largest, plan.largest_by, plan.usd_per_gpu_h,
        plan.simulations + more, plan.notes,
    )  # fmt: skip


def _worth_it(tried: Tried, most: float) -> list[Setting]:
    """Settings that an addition could make the fastest, by so much at most, or make run at all."""
    best = tried.best
    near = [one for one in tried.outcomes if best is not None and one.seconds <= most * best.seconds]
    return [setting for one in near for setting in one.again] + [one.setting for one in tried.refusals]


def _purchase(plan: OffloadPlan, addition: Addition, on_it: Tried) -> Purchase:
    assert addition.scenario is not None
    largest = plan.largest
    if isinstance(addition.scenario, TrainingScenario) and plan.largest is not None:
        found, _ = training.largest(addition.scenario, training.settings(addition.scenario))
        if addition.replaces or found.parameters > plan.largest.parameters:
            largest = found
    own, best = (plan.ranked[0] if plan.ranked else None), on_it.best
    if best is None and own is None:
        return Purchase(addition, largest=largest)
    if own is not None and (best is None or best.seconds >= own.outcome.seconds) and not addition.replaces:
        rate, text = tokens_per_s(own.summary), own.summary["bottleneck"]
        return Purchase(addition, own.outcome.setting, own.outcome.batch, rate, text, largest)
    if best is None:  # another GPU, on which nothing runs
        return Purchase(addition, largest=largest)
    summary = _summary(best.scenario)
    return Purchase(
        addition, best.setting, best.batch, tokens_per_s(summary), summary["bottleneck"], largest, used=True
    )


def _notes(scenario: OffloadScenario) -> list[str]:
    if isinstance(scenario, TrainingScenario):
        left = training.untried()
        said = [
            "largest models are of this width, at the scenario's own micro-batch",
            "delayed updates are not tried: they change what is learnt",
        ]
    else:
        left = inference.untried()
        said = [
            "compression is as the scenario's own policy has it: it changes answers",
            "with an addition FlexGen's search keeps the number of batches found without: gains may be larger",
        ]
    said.append("the catalog has no prices of drives, host memory and links; gains per dollar are of GPUs' hours alone")
    said.append("throughputs of additions share the errors of the machine's own; their gains are surer than either")
    return [*said, *([f"not tried: {', '.join(left)}"] if left else [])]
