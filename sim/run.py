"""The way from a scenario to a result: workload, engines, clock, frames. A pure call: no files, no prints."""

from __future__ import annotations

import gc
from collections.abc import Callable

from sim.result import Result
from sim.scenario import Scenario
from sim.serving.record import RequestLog
from sim.serving.results import request_columns
from sim.serving.shapes import attribute_shapes
from sim.serving.simulate import simulate_serving
from sim.serving.summary import summarise
from sim.workload import load_requests
from workloads.request import RequestTable


def run(
    scenario: Scenario,
    *,
    exact: bool = False,
    requests: RequestTable | None = None,
    watch: Callable[[RequestLog], None] | None = None,
    log: RequestLog | None = None,
) -> Result:
    """Simulate a scenario; raises FleetcastError for an impossible one.

    exact: one event an iteration. requests: a workload in place of the scenario's own. watch: called once, before the
    clock starts, with the log whose `finished` grows as requests end. log: a fresh one of `requests` that does
    more than note, such as end the run by an exception of its own.
    """
    if requests is None:
        requests = load_requests(scenario.workload, scenario.seed)
    collecting = gc.isenabled()
    gc.disable()  # the engines make millions of short-lived objects and no cycles
    try:
        serving = simulate_serving(scenario, requests, exact, watch, log)
    finally:
        if collecting:
            gc.enable()
    columns = request_columns(serving.requests, scenario.slo)
    runs = serving.runs.columns()
    attributions = attribute_shapes(runs, serving.deployment)
    summary = summarise(scenario, serving, columns, attributions)
    return Result(scenario, summary, serving, columns, attributions)
