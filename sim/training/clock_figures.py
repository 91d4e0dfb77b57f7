"""What clocks chosen for passes save of a pipeline's energy, as Perseus's paper tabulates it (arXiv 2312.06902).

Shares are of the energy at the highest clocks; of the same pipeline beside the same straggler, where there is one.
"""

from __future__ import annotations

from functools import lru_cache

from policies.power.perseus import Frontier
from policies.power.perseus_baselines import envpipe, highest_clock
from policies.power.perseus_pipeline import Outcome
from sim.training.clock_frontier import frontier_of
from sim.training.deployment import deploy_training
from sim.training_scenario import TrainingScenario

STRAGGLERS = (1.05, 1.1, 1.2, 1.3, 1.4, 1.5)  # another pipeline's iteration, over one at the highest clocks
LENGTHS = (1.011, 1.022, 1.056, 1.112, 1.168, 1.224)  # of iterations whose energy the artifact lists, over the shortest


def highest_clock_s(scenario: TrainingScenario) -> float:
    """Seconds of an iteration with every pass at its highest clock."""
    return _highest(scenario)[1].iteration_s


def highest_clock_j(scenario: TrainingScenario) -> float:
    """Joules of such an iteration, of one pipeline."""
    return _highest(scenario)[1].energy_j


def perseus_saved(scenario: TrainingScenario) -> float:
    """Share saved by an iteration that takes no longer."""
    found, highest = _highest(scenario)
    return found.run().saved_fraction(highest)


def perseus_saved_beside(slowdown: float, scenario: TrainingScenario) -> float:
    """Share saved beside a pipeline that takes so many times as long."""
    found, highest = _highest(scenario)
    until_s = slowdown * highest.iteration_s
    return found.beside_straggler(until_s).saved_fraction(found.pipeline.outcome(highest.clocks, until_s))


def perseus_saved_at(length: float, scenario: TrainingScenario) -> float:
    """Share of an iteration at the highest clocks that one of so many times the shortest saves."""
    found, highest = _highest(scenario)
    return found.run(length * found.shortest_s).saved_fraction(highest)


def envpipe_saved(scenario: TrainingScenario) -> float:
    """Share that EnvPipe saves with an iteration that takes no longer."""
    found, highest = _highest(scenario)
    return envpipe(found.pipeline).saved_fraction(highest)


def envpipe_saved_beside(slowdown: float, scenario: TrainingScenario) -> float:
    """The same beside a pipeline that takes so many times as long."""
    found, highest = _highest(scenario)
    until_s = slowdown * highest.iteration_s
    kept = envpipe(found.pipeline)
    return found.pipeline.outcome(kept.clocks, until_s).saved_fraction(found.pipeline.outcome(highest.clocks, until_s))


def _highest(scenario: TrainingScenario) -> tuple[Frontier, Outcome]:
    found = _solved(scenario.model_dump_json())
    return found, highest_clock(found.pipeline)


@lru_cache(maxsize=4)
def _solved(scenario: str) -> Frontier:
    """Kept, as figures of one scenario are asked for one after another."""
    return frontier_of(deploy_training(TrainingScenario.model_validate_json(scenario)))
