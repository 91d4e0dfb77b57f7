"""Requests that a worker has drawn or read already: settings of a sweep mostly share them, seed by seed."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from sim.identity import file_digest
from sim.scenario import WorkloadSection
from sim.workload import load_requests
from workloads.request import RequestTable

MOST_REQUESTS = 1_000_000  # kept in all, some 60 MB


class RequestCache:
    """Tables by workload, content of its file and seed; the longest unused go first."""

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self._most, self._held = most, 0
        self._tables: OrderedDict[tuple[str, bytes, int], RequestTable] = OrderedDict()

    def requests(self, workload: WorkloadSection, seed: int) -> RequestTable:
        """As `load_requests` gives them."""
        trace = Path(workload.trace) if workload.trace else None
        content = file_digest(trace) if trace is not None and trace.is_file() else b""
        key = (workload.model_dump_json(), content, seed)
        if key in self._tables:
            self._tables.move_to_end(key)
            return self._tables[key]
        table = load_requests(workload, seed)
        if len(table) <= self._most:
            self._tables[key] = table
            self._held += len(table)
            while self._held > self._most:
                self._held -= len(self._tables.popitem(last=False)[1])
        return table

    def forget(self) -> None:
        """Keep nothing."""
        self._tables.clear()
        self._held = 0


CACHE = RequestCache()  # of this process, as the prices of deployments are
