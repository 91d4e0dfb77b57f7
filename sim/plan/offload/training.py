"""Ways to train beyond a GPU's memory, each with its own search inside, and the micro-batch that suits each best.

A setting's step is run at the largest micro-batch that fits and at smaller ones as long as they make it shorter: fewer
micro-batches move weights less often, smaller ones overlap better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from hardware_models.errors import FleetcastError, ImpossibleError
from policies.offload import OFFLOAD, TierError
from sim.offload.deployment import OffloadDeployment, deploy_offload
from sim.offload.simulate import simulate_offload
from sim.offload.trainable import Trainable, largest_trainable
from sim.plan.offload.outcome import Outcome, Refusal, Setting, Tried, distinct
from sim.policy_choice import make_policy
from sim.section import PolicyChoice
from sim.training.deployment import deploy_training
from sim.training_scenario import TrainingScenario

FULL = "full"
PLACES: dict[str, dict[str, tuple[Any, ...]]] = {  # policy -> keys and values that are tried together
    "fuyou": {"parameters": ("nvme", "host"), "buffer_count": (1, 2)},
    "zero_infinity": {
        "optimizer_state": ("host", "nvme"), "parameters": ("host", "nvme", "gpu"), "activations": ("gpu", "host"),
    },
    "zero_offload": {"activations": ("gpu", "host")},
    "deep_optimizer_states": {"activations": ("gpu", "host")},
    "memascend": {},
}  # fmt: skip


def settings(scenario: TrainingScenario) -> list[Setting]:
    """The scenario's own first, then every policy's; what changes what is learnt (a delayed update) is left out."""
    section = scenario.offload
    assert section is not None
    own = scenario.training.recompute.name
    found = [Setting(section.policy.name, tuple(section.policy.keys.items()), _recompute(section.policy.name, own))]
    for policy, places in PLACES.items():  # Fuyou first: most others then need not be searched for larger models
        for recompute in dict.fromkeys((_recompute(policy, FULL), _recompute(policy, own))):
            found += [
                Setting(policy, tuple(zip(places, values, strict=True)), recompute)
                for values in product(*places.values())
            ]
    return distinct(found)


def untried() -> list[str]:
    """Policies of the catalog that the planner does not try by itself."""
    return [name for name in OFFLOAD if name not in PLACES]


def try_training(scenario: TrainingScenario, chosen: Iterable[Setting]) -> Tried:
    """Run the settings on the scenario's machine; raises FleetcastError for a scenario that is wrong."""
    found, bench = Tried(), _Bench(scenario)
    for setting in chosen:
        _climb(bench, setting, found)
    return found


def with_setting(scenario: TrainingScenario, setting: Setting, micro_batch: int | None = None) -> TrainingScenario:
    """The scenario under a setting."""
    assert scenario.offload is not None
    training: dict[str, Any] = {"check_memory": True}
    if micro_batch is not None:
        training["micro_batch_size"] = micro_batch
    if setting.recompute:
        training["recompute"] = PolicyChoice(name=setting.recompute)
    return scenario.model_copy(
        update={
            "offload": scenario.offload.model_copy(update={"policy": setting.choice}),
            "training": scenario.training.model_copy(update=training),
        }
    )


def largest(scenario: TrainingScenario, chosen: Iterable[Setting]) -> tuple[Trainable, Setting | None]:
    """The largest model over settings, at the scenario's own micro-batch, and what trains it; None: not even a layer
    fits.
    """
    best, by = Trainable(0, 0.0, ""), None
    bench = _Bench(scenario)
    for setting in chosen:
        try:
            found = largest_trainable(bench.plan(setting, scenario.training.micro_batch_size), more_than=best.layers)
        except ImpossibleError:
            continue  # a setting that suits no size of model
        if found.layers > best.layers or not best.tier:
            best, by = found, setting
    return best, by if best.layers else None


def _recompute(policy: str, name: str) -> str:
    """Fuyou chooses by itself what it computes again."""
    return "" if policy == "fuyou" else name


class _Bench:
    """A machine and a model, priced once for each micro-batch and what is computed again."""

    def __init__(self, scenario: TrainingScenario) -> None:
        self.scenario = scenario
        self._plans: dict[tuple[str, str, int], OffloadDeployment] = {}

    def plan(self, setting: Setting, micro_batch: int) -> OffloadDeployment:
        """A setting made concrete."""
        key = (setting.policy, setting.recompute, micro_batch)
        if key not in self._plans:
            self._plans[key] = deploy_offload(with_setting(self.scenario, setting, micro_batch))
        return replace(self._plans[key], policy=make_policy("offload.policy", setting.choice, OFFLOAD, {}))

    def check(self, setting: Setting, micro_batch: int) -> None:
        """Raises TierError where it does not fit, ImpossibleError where it cannot be."""
        plan = self.plan(setting, micro_batch)
        plan.policy.needs(plan.work, plan.machine).check(plan.machine)


def _climb(bench: _Bench, setting: Setting, found: Tried) -> None:
    """From the largest micro-batch downwards, until one is slower than the one before."""
    best: Outcome | None = None
    refusal: Refusal | None = None
    for micro_batch in _micro_batches(bench.scenario):
        one = with_setting(bench.scenario, setting, micro_batch)
        try:
            bench.check(setting, micro_batch)
            seconds = simulate_offload(one).step_s
        except (TierError, ImpossibleError) as error:
            if best is not None:
                break
            refusal = Refusal.of(setting, error)
            continue
        found.simulations += 1
        if best is not None and seconds >= best.seconds:
            break
        best = Outcome(setting, micro_batch, seconds, one, (setting,))
    if best is not None:
        found.outcomes.append(best)
    elif refusal is not None:
        found.refusals.append(refusal)


def _micro_batches(scenario: TrainingScenario) -> list[int]:
    """A rank's whole batch, and halves of it down to one sequence."""
    plain = scenario.model_copy(update={"offload": None})
    layout = deploy_training(plain).layout
    size, left = divmod(scenario.training.global_batch_size, layout.dp)
    if left:
        raise FleetcastError(
            f"training.global_batch_size = {scenario.training.global_batch_size}: {layout.dp} copies of the model"
            " cannot share it evenly; give a multiple"
        )
    found = [size]
    while found[-1] % 2 == 0:
        found.append(found[-1] // 2)
    own = scenario.training.micro_batch_size
    return sorted({*found, own}, reverse=True)
