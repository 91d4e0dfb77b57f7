"""The Training page: what a step of a training plan takes, in time, memory and energy, and why."""

from __future__ import annotations

from app.web.families import TRAINING
from app.web.scenario_page import ScenarioPage
from app.web.training_answer import show_training
from sim.scenario_file import AnyScenario
from sim.stored_run import StoredTraining
from sim.training_scenario import TrainingScenario

TITLE = TRAINING.title
ICON = ":material/model_training:"


def render() -> None:
    """Draw the page."""
    ScenarioPage(
        family=TRAINING, kind=StoredTraining, show=show_training, unlike=_unlike, simulated=without_check
    ).render()


def without_check(scenario: AnyScenario) -> AnyScenario:
    """What is run of a plan: one that does not fit too, so that its pictures show what is in the way."""
    if not isinstance(scenario, TrainingScenario):
        return scenario
    training = scenario.training.model_copy(update={"check_memory": False})
    return scenario.model_copy(update={"training": training})


def _unlike(baseline: StoredTraining, shown: StoredTraining) -> str:
    before, now = baseline.scenario.model, shown.scenario.model
    return "" if before == now else "trains another model"
