"""What a simulated training step returns, and how it is written to a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sim.graph_result import GraphResult
from sim.offload.simulate import simulate_offload
from sim.offload.summary import summarise as summarise_offload
from sim.training.checkpoint import checkpoint_figures
from sim.training.checkpoint import sentence as checkpoint_sentence
from sim.training.simulate import TrainingRun, simulate_training
from sim.training.step_power import StepPower
from sim.training.summary import summarise
from sim.training.time_to_train import sentence, time_to_train
from sim.training_scenario import TrainingScenario

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class TrainingResult(GraphResult[TrainingScenario, TrainingRun]):
    """Figures of a step."""

    @property
    def frames(self) -> tuple[str, ...]:
        """Tasks, memory, and watts."""
        return (*super().frames, "power")

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a change of watts over several steps; columns as in sim.training.step_power.POWER_COLUMNS."""
        return StepPower.of(self.run).frame()


def run_training(scenario: TrainingScenario, *, exact: bool = False) -> TrainingResult:
    """Simulate a step of a training scenario; raises FleetcastError for an impossible one.

    exact: on SimPy's clock instead of by max-plus.
    """
    summary: dict[str, Any]
    run: TrainingRun
    if scenario.offload is not None:
        run = offloaded = simulate_offload(scenario)
        summary = summarise_offload(offloaded)
    else:
        run = simulate_training(scenario, exact=exact)
        summary = summarise(run)
    if (saving := checkpoint_figures(run)) is not None:
        summary["checkpoint"] = saving
        summary["notes"].append(checkpoint_sentence(saving))
    if (whole := time_to_train(scenario, summary)) is not None:
        summary["time_to_train"] = whole
        summary["notes"].append(sentence(whole))
    return TrainingResult(scenario, summary, run)
