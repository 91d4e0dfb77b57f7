"""What a simulated training step returns, and how it is written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.graph.frames import memory_frame, tasks_frame
from sim.offload.simulate import simulate_offload
from sim.offload.summary import summarise as summarise_offload
from sim.result import FileContent, check_run_folder, without_nan, write_folder
from sim.scenario_file import relocated, scenario_toml
from sim.training.simulate import TrainingRun, simulate_training
from sim.training.step_power import StepPower
from sim.training.summary import summarise
from sim.training.time_to_train import sentence, time_to_train
from sim.training_scenario import TrainingScenario

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class TrainingResult:
    """Figures of a step; frames are made when first asked for."""

    scenario: TrainingScenario
    summary: dict[str, Any]
    run: TrainingRun = field(repr=False)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task; columns as in sim.graph.frames.TASK_COLUMNS."""
        return tasks_frame(self.run.graph, self.run.times)

    @cached_property
    def memory(self) -> pd.DataFrame:
        """One row a change of what an owner holds; columns as in sim.graph.frames.MEMORY_COLUMNS."""
        return memory_frame(self.run.graph, self.run.times)

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a change of watts over several steps; columns as in sim.training.step_power.POWER_COLUMNS."""
        return StepPower.of(self.run).frame()

    def summary_json(self) -> str:
        """The summary as JSON; values that do not apply are null."""
        return json.dumps(without_nan(self.summary), indent=2, allow_nan=False)

    def write(self, folder: Path, extra: Mapping[str, FileContent] | None = None) -> None:
        """Write scenario.toml, summary.json, the frames (tasks, memory, power: Parquet) and `extra` files, all or
        nothing.
        """
        contents: dict[str, FileContent] = {
            "scenario.toml": scenario_toml(relocated(self.scenario, folder.resolve())),
            "summary.json": self.summary_json() + "\n",
            "tasks.parquet": lambda path: self.tasks.to_parquet(path, index=False),
            "memory.parquet": lambda path: self.memory.to_parquet(path, index=False),
            "power.parquet": lambda path: self.power.to_parquet(path, index=False),
            **(extra or {}),
        }
        check_run_folder(folder, contents)
        write_folder(folder, contents)


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
    if (whole := time_to_train(scenario, summary)) is not None:
        summary["time_to_train"] = whole
        summary["notes"].append(sentence(whole))
    return TrainingResult(scenario, summary, run)
