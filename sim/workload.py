"""From the [workload] section to requests: a catalog trace, a trace file, or a generator."""

from __future__ import annotations

from pathlib import Path

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.scenario import MAX_TIME_S, WorkloadSection
from workloads.generators import make_generator
from workloads.request import RequestTable
from workloads.traces import read_trace
from workloads.traces.catalog import catalog_names, catalog_trace


def load_requests(workload: WorkloadSection, seed: int) -> RequestTable:
    """The requests of a scenario; rate_scale divides every time, then duration_s and num_requests cut.

    Raises FleetcastError naming the file, line or key that is wrong.
    """
    table = _drawn(workload, seed)
    last_s = float(table.arrival_s.max(initial=0.0))
    if last_s > MAX_TIME_S:
        raise FleetcastError(
            f"{table.source}: the last request arrives at {last_s:.3g} s, more than {MAX_TIME_S:.3g} s after the start;"
            " cut the workload with workload.duration_s, or mend its arrivals"
        )
    return table


def _drawn(workload: WorkloadSection, seed: int) -> RequestTable:
    if workload.generator is not None:
        generator = make_generator(workload.generator)
        unscaled_s = None if workload.duration_s is None else workload.duration_s * workload.rate_scale
        table = generator.generate(seed, duration_s=unscaled_s, num_requests=workload.num_requests)
        return table.scale_rate(workload.rate_scale)
    trace = workload.trace or ""
    if trace in catalog_names():
        if workload.request_rate is not None:
            raise FleetcastError(
                f"workload.request_rate: goes with a trace file; scale '{trace}' with workload.rate_scale"
            )
        return catalog_trace(
            trace,
            seed,
            duration_s=workload.duration_s,
            num_requests=workload.num_requests,
            rate_scale=workload.rate_scale,
        )
    if not Path(trace).exists() and "/" not in trace and "." not in trace:
        raise UnknownNameError("workload.trace", trace, catalog_names())
    table = read_trace(trace, request_rate=workload.request_rate, seed=seed).scale_rate(workload.rate_scale)
    if workload.duration_s is not None:
        table = table.slice_time(workload.duration_s)
    if workload.num_requests is not None:
        table = table.head(min(workload.num_requests, len(table)))
    return table
