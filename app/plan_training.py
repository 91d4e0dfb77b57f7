"""Where a training plan goes: standard output, and a folder with its rows, the winning scenario and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.plan_outputs import deliver
from app.plan_training_console import training_plan_lines
from sim.plan.training.table import every_plan, training_plan_json

if TYPE_CHECKING:
    from sim.plan.training.planner import PlannedTraining


def deliver_training(found: PlannedTraining, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    answer = training_plan_json(found)

    def write_rows(path: Path) -> None:
        import pandas as pd

        pd.DataFrame(every_plan(found)).to_parquet(path, index=False)

    ready, tables = {"best.toml": found.best}, {"plans.parquet": write_rows}
    deliver(answer, lambda: training_plan_lines(answer), ready, out, as_json=as_json, tables=tables)
