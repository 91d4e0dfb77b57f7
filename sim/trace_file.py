"""Files in Chrome's trace format, which ui.perfetto.dev opens: events in, JSON out, gzipped where the name says so."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

MAX_EVENTS = 500_000  # more than a browser takes comfortably


def write_events(path: Path, events: Iterable[dict[str, Any]]) -> int:
    """Write a trace (gzipped where the name ends in .gz); returns how many events it holds."""
    count = 0
    with _opened(path) as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for event in events:
            file.write(("" if count == 0 else ",\n") + json.dumps(event, separators=(",", ":")))
            count += 1
        file.write("\n]}\n")
    return count


def cut_here(at_us: float, events: int) -> dict[str, Any]:
    """The last event of a trace that is too long: says after how many events it was cut."""
    return {"ph": "i", "s": "g", "name": f"cut here after {events} events", "pid": 0, "tid": 0, "ts": at_us}


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """For text; a gzip file without name and date, so that the same run gives the same bytes."""
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped,
        io.TextIOWrapper(zipped, encoding="utf-8") as file,
    ):
        yield file
