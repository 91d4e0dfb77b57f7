"""What a simulation returns, and how it is written to a folder that anybody can read without Fleetcast."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware_models.errors import FleetcastError
from sim.scenario import Scenario
from sim.scenario_file import scenario_toml

if TYPE_CHECKING:
    import pandas as pd

    from sim.serving.attribution import Attribution
    from sim.serving.simulate import ServingRun


@dataclass
class Result:
    """Frames and a summary; frames are made when first asked for."""

    scenario: Scenario
    summary: dict[str, Any]
    run: ServingRun = field(repr=False)
    request_columns: dict[str, Any] = field(repr=False)
    attributions: list[Attribution] = field(repr=False)  # one a pipeline stage

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request; columns as in sim.serving.results.REQUEST_COLUMNS."""
        import pandas as pd

        return pd.DataFrame(self.request_columns)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a run of equal steps; see sim.serving.results.steps_frame."""
        from sim.serving.results import steps_frame

        return steps_frame(self.run.runs, self.attributions)

    def summary_json(self) -> str:
        """The summary as JSON; values that do not apply are null."""
        return json.dumps(_without_nan(self.summary), indent=2, allow_nan=False)

    def write(self, folder: Path, extra: dict[str, str] | None = None) -> None:
        """Write scenario.toml, summary.json, requests.parquet, steps.parquet and `extra` text files, all or nothing.

        The folder is built beside its place and renamed into it; raises FleetcastError where something else is in its place.
        """
        check_run_folder(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            building.chmod(0o755)
            (building / "scenario.toml").write_text(scenario_toml(self.scenario))
            (building / "summary.json").write_text(self.summary_json() + "\n")
            self.requests.to_parquet(building / "requests.parquet", index=False)
            self.steps.to_parquet(building / "steps.parquet", index=False)
            for name, text in (extra or {}).items():
                (building / name).write_text(text)
            if folder.exists():
                shutil.rmtree(folder)
            building.rename(folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def check_run_folder(folder: Path) -> None:
    """Refuse a place that holds anything but an earlier run or nothing."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FleetcastError(f"--out {folder}: is a file; give a folder that is absent, empty or an earlier run")
    entries = {entry.name for entry in folder.iterdir()}
    if entries and "summary.json" not in entries:
        raise FleetcastError(f"--out {folder}: holds other files; give a folder that is absent, empty or an earlier run")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
