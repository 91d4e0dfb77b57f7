"""The files of a run on its page: what was asked, what came of it, pictures, timeline and frames, to be taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app.web.components import download
from sim.stored_run import AnyRun


def show_files(
    run: AnyRun, scenario: str, report: Callable[[], str], trace: Callable[[], bytes], frames: Sequence[str]
) -> None:
    """Draw the buttons; frames that a run has not, or that its version had not, are left out."""
    name = file_name(run.scenario.name)
    st.caption("Everything of this run, readable without Fleetcast; the trace opens in ui.perfetto.dev.")
    with st.container(horizontal=True):
        download("Scenario (TOML)", scenario.encode, f"{name}.toml", "file-toml")
        download("summary.json", (run.folder / "summary.json").read_bytes, f"{name}-summary.json", "file-sum")
        download("report.html", lambda: report().encode(), f"{name}.html", "file-report")
        download("Perfetto trace", trace, f"{name}-trace.json.gz", "file-trace")
        for frame in frames:
            path = run.folder / f"{frame}.parquet"
            if path.is_file():
                download(f"{frame}, Parquet", path.read_bytes, f"{name}-{frame}.parquet", f"file-{frame}")
                download(f"{frame}, CSV", partial(_csv, run, frame), f"{name}-{frame}.csv", f"file-{frame}-csv")
    st.caption(f"Kept in {run.folder} as run {run.folder.name}.")


def _csv(run: AnyRun, frame: str) -> bytes:
    rows: pd.DataFrame = getattr(run, frame)
    return rows.to_csv(index=False).encode()


def file_name(name: str) -> str:
    """A run's name as a file may have it."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:80]
