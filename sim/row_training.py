"""The training that shares a serving scenario's row: its scenario, read from the file that [power.training] names."""

from __future__ import annotations

from pathlib import Path

from hardware_models.errors import FleetcastError, ImpossibleError, UnknownNameError
from sim.power_section import RowTrainingSection
from sim.scenario_file import load_any, read_toml, scenario_model
from sim.section import PolicyChoice
from sim.training_scenario import TrainingScenario

SHIPPED = Path(__file__).parent.parent / "scenarios"
KEY = "power.training"


def row_training(section: RowTrainingSection) -> TrainingScenario:
    """On as many servers as the section gives it; raises FleetcastError for a file that is no training, or one that
    cannot share a row.
    """
    named = f"{KEY}.scenario = '{section.scenario}'"
    try:
        scenario = load_any(training_file(section.scenario))
    except UnknownNameError:
        raise
    except FleetcastError as error:
        raise FleetcastError(f"{KEY}.scenario: {error}") from None
    if not isinstance(scenario, TrainingScenario):
        raise FleetcastError(f"{named}: is no training; give a scenario with a [training] section")
    for key, choice in scenario.power or ():
        if isinstance(choice, PolicyChoice) and choice.name != "none":
            raise ImpossibleError(
                f"{named}: has power.{key} = '{choice.name}', which needs a clock that stays, and a row changes it;"
                " leave it out"
            )
    if section.nodes is not None:
        cluster = scenario.cluster.model_copy(update={"nodes": section.nodes})
        scenario = scenario.model_copy(update={"cluster": cluster})
    return scenario


def training_file(name: str) -> Path:
    """A path as it is, else a scenario that ships with Fleetcast; raises UnknownNameError for none of these."""
    if name.endswith(".toml"):
        return Path(name)
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}
    if name not in shipped or scenario_model(read_toml(shipped[name])) is not TrainingScenario:
        trainings = [one for one, path in shipped.items() if scenario_model(read_toml(path)) is TrainingScenario]
        raise UnknownNameError(f"{KEY}.scenario", name, trainings)
    return shipped[name]
