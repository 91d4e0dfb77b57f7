"""A run folder read back: scenario, summary and frames, as `Result.write` left them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware_models.errors import FleetcastError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario import Scenario
from sim.scenario_file import load_any
from sim.training_scenario import TrainingScenario

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StoredRun:
    """What pictures and tables need of a serving run; frames are read when first asked for."""

    folder: Path
    scenario: Scenario
    summary: dict[str, Any] = field(repr=False)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, as of `Result.requests`."""
        return _frame(self.folder / "requests.parquet")

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a run of equal steps, as of `Result.steps`."""
        return _frame(self.folder / "steps.parquet")

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a reading, as of `Result.power`; there is none where no row was metered."""
        return _frame(self.folder / "power.parquet")


@dataclass(frozen=True)
class _StoredGraph:
    """The same of what ran as a graph of tasks."""

    folder: Path
    scenario: Any
    summary: dict[str, Any] = field(repr=False)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task; columns as in sim.graph.frames.TASK_COLUMNS."""
        return _frame(self.folder / "tasks.parquet")

    @cached_property
    def memory(self) -> pd.DataFrame:
        """One row a change of what an owner holds; columns as in sim.graph.frames.MEMORY_COLUMNS."""
        return _frame(self.folder / "memory.parquet")


@dataclass(frozen=True)
class StoredTraining(_StoredGraph):
    """A training step."""

    scenario: TrainingScenario

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a change of watts, as of `TrainingResult.power`."""
        return _frame(self.folder / "power.parquet")


@dataclass(frozen=True)
class StoredOffloadedInference(_StoredGraph):
    """A batch job of offloaded inference."""

    scenario: OffloadedInferenceScenario


AnyRun = StoredRun | StoredTraining | StoredOffloadedInference


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(path)


def read_any_run(folder: Path) -> AnyRun:
    """Read a folder of `fleetcast run --out`, of whatever kind of scenario; raises FleetcastError for one that is
    none.
    """
    scenario = load_any(folder / "scenario.toml")
    summary = read_summary(folder)
    if isinstance(scenario, Scenario):
        return StoredRun(folder, scenario, summary)
    if isinstance(scenario, OffloadedInferenceScenario):
        return StoredOffloadedInference(folder, scenario, summary)
    return StoredTraining(folder, scenario, summary)


def read_run(folder: Path) -> StoredRun:
    """The same of a serving run; raises FleetcastError for one of training too."""
    run = read_any_run(folder)
    if isinstance(run, StoredTraining):
        raise FleetcastError(f"{folder}: is a training run; give one of serving")
    if isinstance(run, StoredOffloadedInference):
        raise FleetcastError(f"{folder}: is a run of offloaded inference; give one of serving")
    return run


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run folder; raises FleetcastError."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FleetcastError(f"{folder}: is no run folder (no summary.json); make one with run --out") from None
    except OSError as error:
        raise FleetcastError(f"{str(path)[:120]}: cannot be read ({error.strerror}); give a run folder") from None
    except ValueError:  # no JSON, or no text
        raise FleetcastError(f"{path}: is not valid JSON; run the scenario again with --out {folder}") from None
    if not isinstance(summary, dict):
        raise FleetcastError(f"{path}: is no summary of this version; run the scenario again with --out {folder}")
    return summary
