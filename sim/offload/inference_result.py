"""What a simulated batch job of offloaded inference returns, and how it is written to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.graph.frames import memory_frame, tasks_frame
from sim.offload.inference_run import InferenceRun, simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.offload.inference_summary import summarise_inference
from sim.result import FileContent, check_run_folder, without_nan, write_folder
from sim.scenario_file import relocated, scenario_toml

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class OffloadedInferenceResult:
    """Figures of a job; frames are of the steps that were run, and made when first asked for."""

    scenario: OffloadedInferenceScenario
    summary: dict[str, Any]
    run: InferenceRun = field(repr=False)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task; columns as in sim.graph.frames.TASK_COLUMNS."""
        return tasks_frame(self.run.graph, self.run.times)

    @cached_property
    def memory(self) -> pd.DataFrame:
        """One row a change of what an owner holds; columns as in sim.graph.frames.MEMORY_COLUMNS."""
        return memory_frame(self.run.graph, self.run.times)

    def summary_json(self) -> str:
        """The summary as JSON; values that do not apply are null."""
        return json.dumps(without_nan(self.summary), indent=2, allow_nan=False)

    def write(self, folder: Path, extra: Mapping[str, FileContent] | None = None) -> None:
        """Write scenario.toml, summary.json, tasks.parquet, memory.parquet and `extra` files, all or nothing."""
        contents: dict[str, FileContent] = {
            "scenario.toml": scenario_toml(relocated(self.scenario, folder.resolve())),
            "summary.json": self.summary_json() + "\n",
            "tasks.parquet": lambda path: self.tasks.to_parquet(path, index=False),
            "memory.parquet": lambda path: self.memory.to_parquet(path, index=False),
            **(extra or {}),
        }
        check_run_folder(folder, contents)
        write_folder(folder, contents)


def run_inference(scenario: OffloadedInferenceScenario, *, exact: bool = False) -> OffloadedInferenceResult:
    """Simulate a batch job; raises FleetcastError for an impossible one.

    exact: every decoding step, on SimPy's clock.
    """
    run = simulate_inference(scenario, exact=exact)
    return OffloadedInferenceResult(scenario, summarise_inference(run), run)
