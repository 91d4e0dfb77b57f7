"""A plan on a cluster whose links are unequal: its nodes placed, and the step simulated with them there.

A mapping is sought by a closed form, which leaves out what overlaps: so the step of the answer is simulated in the
nodes' own order too, and the faster counts.
"""

from __future__ import annotations

from hardware_models import catalog
from policies.parallelism.mapping import Best, Identity
from sim.training.node_mapping import deploy_mapped
from sim.training.node_places import slowdowns
from sim.training.simulate import TrainingRun, simulate_deployment
from sim.training_scenario import TrainingScenario


def has_unequal_links(scenario: TrainingScenario) -> bool:
    """Raises ImpossibleError where links name nodes that are not there."""
    return slowdowns(scenario.cluster, catalog.node(scenario.cluster.node)) is not None


def with_equal_links(scenario: TrainingScenario) -> TrainingScenario:
    """The same cluster, every link as fast as the fastest: no step takes less on the real one."""
    cluster = scenario.cluster.model_copy(update={"node_links": None, "slow_links": []})
    return scenario.model_copy(update={"cluster": cluster})


def with_mapping_free(scenario: TrainingScenario) -> TrainingScenario:
    """The scenario as if it said nothing of its nodes' places."""
    training = scenario.training
    given = {key: getattr(training, key) for key in training.model_fields_set - {"node_mapping"}}
    return scenario.model_copy(update={"training": type(training).model_validate(given)})


def map_nodes(scenario: TrainingScenario) -> TrainingRun:
    """A step by the scenario's own mapping where it gives one, else by the best that is found.

    Raises ImpossibleError for a plan that cannot be.
    """
    given = "node_mapping" in scenario.training.model_fields_set
    return simulate_deployment(*deploy_mapped(scenario, None if given else Best()))


def in_own_order(scenario: TrainingScenario) -> TrainingRun:
    """A step with every node at its own place."""
    return simulate_deployment(*deploy_mapped(scenario, Identity()))
