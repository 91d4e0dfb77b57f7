"""Ways to serve a batch job beyond a GPU's memory: FlexGen's search, weights streamed layer by layer, and the
scenario's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from hardware_models.errors import DoesNotFitError, ImpossibleError
from policies.offload.block_plan import BlockPlan
from policies.offload.inference_policies import INFERENCE_OFFLOAD
from sim.offload.inference_run import simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.plan.offload.outcome import Outcome, Refusal, Setting, Tried, distinct

MOST_SEQUENCES = 512  # of a batch of streamed weights
KEPT = ("compress_weights", "compress_cache")  # what changes answers is as the scenario's own policy has it
SEARCH, STREAMED = "flexgen_search", "zero_inference"
TRIED = (SEARCH, STREAMED, "flexgen", "accelerate")  # FlexGen's search holds all that flexgen could be told


def settings(scenario: OffloadedInferenceScenario) -> list[Setting]:
    """The scenario's own first."""
    own = scenario.offload.policy
    kept = tuple((key, value) for key, value in own.keys.items() if key in KEPT)
    found = [Setting(own.name, tuple(own.keys.items()))]
    on_cpu = (False,) if dict(kept).get("compress_cache") else (True, False)
    found += [Setting(SEARCH, (*kept, ("cpu_attention", one))) for one in on_cpu]
    found += [Setting(STREAMED, (("weights", tier),)) for tier in ("host", "nvme")]
    return distinct(found)


def untried() -> list[str]:
    """Policies of the catalog that the planner does not try by itself."""
    return [name for name in INFERENCE_OFFLOAD if name not in TRIED]


def try_inference(scenario: OffloadedInferenceScenario, chosen: Iterable[Setting]) -> Tried:
    """Run the settings on the scenario's machine; raises FleetcastError for a scenario that is wrong."""
    found = Tried()
    for setting in chosen:
        if setting.policy == STREAMED and "batch_size" not in dict(setting.keys):
            _climb(scenario, setting, found)
        else:
            _run(scenario, setting, setting, found)
    return found


def with_setting(scenario: OffloadedInferenceScenario, setting: Setting) -> OffloadedInferenceScenario:
    """The scenario under a setting."""
    changed = {"policy": setting.choice, "check_memory": True}
    return scenario.model_copy(update={"offload": scenario.offload.model_copy(update=changed)})


def _run(scenario: OffloadedInferenceScenario, setting: Setting, run: Setting, found: Tried) -> bool:
    """Run one, noted as `setting`; False: it cannot be."""
    one = with_setting(scenario, run)
    try:
        done = simulate_inference(one)
    except (DoesNotFitError, ImpossibleError) as error:
        found.refusals.append(Refusal.of(setting, error))
        return False
    found.simulations += 1
    block = done.deployment.plan.sequences
    requests = scenario.workload.num_requests or block
    seconds = -(-requests // block) * done.block_s / requests  # a last block that is not full takes as long
    plan = done.deployment.plan
    found.outcomes.append(Outcome(setting, block, seconds, one, _again(setting, plan)))
    return True


def _again(setting: Setting, plan: BlockPlan) -> tuple[Setting, ...]:
    """Of a search that has found a block: on other machines it keeps the number of batches, and runs its best plan."""
    if setting.policy != SEARCH:
        return (setting,)
    less = {"num_gpu_batches": plan.num_gpu_batches, "cost_model": "schedule", "simulated": 1}
    return (Setting(SEARCH, tuple((dict(setting.keys) | less).items())),)


def _climb(scenario: OffloadedInferenceScenario, setting: Setting, found: Tried) -> None:
    """Batches twice as large as long as they fit: a layer's weights are then loaded for more sequences."""
    tried, size = Tried(), 1
    most = min(MOST_SEQUENCES, scenario.workload.num_requests or MOST_SEQUENCES)
    while size <= most and _run(scenario, setting, _of(setting, size), tried):
        size *= 2
    found.simulations += tried.simulations
    if (best := tried.best) is not None:
        found.outcomes.append(best)
    else:
        found.refusals += tried.refusals


def _of(setting: Setting, size: int) -> Setting:
    return Setting(setting.policy, (*setting.keys, ("batch_size", size)))
