"""The folder of a reference run: requests.csv and steps.csv with the simulator's columns, and run.toml."""

from __future__ import annotations

import json
import tomllib
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware_models.errors import FleetcastError
from sim.result import check_run_folder
from sim.scenario import SloSection
from sim.serving.results import request_columns
from workloads.request import RequestTable

if TYPE_CHECKING:
    import pandas as pd

    from calibration.reference_server.engine import ReferenceEngine
    from calibration.reference_server.server import Served

REQUESTS, STEPS, RUN, COMPARISON = "requests.csv", "steps.csv", "run.toml", "comparison.csv"
FILES = (REQUESTS, STEPS, RUN, COMPARISON)
REQUEST_COLUMNS = (
    "request_id", "arrival_s", "prompt_tokens", "output_tokens", "queue_s", "ttft_s", "tpot_s", "max_tbt_s", "e2e_s",
    "preemptions",
)  # fmt: skip
SECONDS_FORMAT = "%.7f"  # finer than the clocks are


def check_folder(folder: Path) -> None:
    """Refuse, before hours are spent, a place that cannot take a run; raises FleetcastError."""
    check_run_folder(folder, FILES)


def requests_frame(engine: ReferenceEngine) -> pd.DataFrame:
    """One row a request; NaN for what did not happen: turned away, or cut off at the end."""
    import pandas as pd

    columns = request_columns(engine.requests, SloSection())
    return pd.DataFrame({name: columns[name] for name in REQUEST_COLUMNS})


def steps_frame(engine: ReferenceEngine) -> pd.DataFrame:
    """One row a step; columns as in engine.StepRecord."""
    import pandas as pd

    from calibration.reference_server.engine import StepRecord

    names = [field.name for field in fields(StepRecord)]
    return pd.DataFrame([astuple(step) for step in engine.steps], columns=names)


def write(served: Served, folder: Path) -> None:
    """Write the three files; raises FleetcastError where that cannot be."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMPARISON).unlink(missing_ok=True)  # of an earlier run
        for name, frame in ((REQUESTS, requests_frame(served.engine)), (STEPS, steps_frame(served.engine))):
            frame.to_csv(folder / name, index=False, float_format=SECONDS_FORMAT)
        (folder / RUN).write_text(_toml(served.facts), encoding="utf-8")
    except OSError as error:
        raise FleetcastError(f"--out {folder}: cannot be written ({error.strerror}); give another folder") from error


def read_facts(folder: Path) -> dict[str, Any]:
    """run.toml; raises FleetcastError where the folder is not of a reference run."""
    path = folder / RUN
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise FleetcastError(f"{path}: cannot be read ({error}); give a folder of `calibrate serve --out`") from error


def read_frame(folder: Path, name: str) -> pd.DataFrame:
    """requests.csv or steps.csv; raises FleetcastError where it cannot be read."""
    import pandas as pd

    try:
        return pd.read_csv(folder / name)
    except (OSError, ValueError) as error:
        raise FleetcastError(f"{folder / name}: cannot be read ({error}); serve again with --out") from error


def served_table(requests: pd.DataFrame, source: str) -> RequestTable:
    """The requests that were started, as a workload for the simulator; the others took no time of the server's."""
    started = requests[np.isfinite(requests["queue_s"])]
    if started.empty:
        raise FleetcastError(f"{source}: no request was started; serve again with a longer --budget-s")
    return RequestTable.build(
        source=source,
        arrival_s=started["arrival_s"].to_numpy(),
        prompt_tokens=started["prompt_tokens"].to_numpy(),
        output_tokens=started["output_tokens"].to_numpy(),
    )


def _toml(facts: dict[str, Any]) -> str:
    """Plain keys first, tables last."""
    plain = [f"{key} = {_value(value)}" for key, value in facts.items() if not isinstance(value, dict)]
    for key, table in facts.items():
        if isinstance(table, dict):
            plain += ["", f"[{key}]", *(f"{name} = {_value(value)}" for name, value in table.items())]
    return "\n".join(plain) + "\n"


def _value(value: object) -> str:
    return json.dumps(round(value, 6) if isinstance(value, float) else value, ensure_ascii=False)
