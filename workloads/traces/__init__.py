"""Request traces: published formats, told apart by their columns, all become a RequestTable."""

from __future__ import annotations

from pathlib import Path

from workloads.request import RequestTable
from workloads.traces.azure import AZURE
from workloads.traces.burstgpt import BURSTGPT
from workloads.traces.columns import TableFormat
from workloads.traces.plain import PLAIN
from workloads.traces.source import open_trace
from workloads.traces.structured import read_json
from workloads.traces.table import read_csv, read_parquet
from workloads.traces.vidur import VIDUR

TABLE_FORMATS: dict[str, TableFormat] = {
    "plain": PLAIN,
    "azure": AZURE,
    "burstgpt": BURSTGPT,
    "vidur": VIDUR,
}


def read_trace(path: str | Path, *, request_rate: float | None = None, seed: int = 0) -> RequestTable:
    """Read a trace file of any known format; `request_rate` (per s) replaces its arrivals by Poisson ones.

    CSV, JSON, JSON lines or Parquet, gzipped or not; the content decides, never the file's name.
    """
    file = open_trace(path)
    formats = tuple(TABLE_FORMATS.values())
    if file.is_parquet:
        return read_parquet(file, formats, request_rate, seed)
    if file.content.lstrip()[:1] in (b"{", b"["):
        return read_json(file, request_rate, seed)
    return read_csv(file, formats, request_rate, seed)
