"""How many requests each hour of a day brings: of a table, of the workload's own profile, or the same all day."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_models.errors import FleetcastError
from sim.plan.demand import mean_rate
from sim.scenario import Scenario, WorkloadSection
from sim.workload import load_requests
from workloads.generators import make_generator
from workloads.generators.profile import Profile
from workloads.request import RequestTable
from workloads.traces.catalog import catalog_entry, catalog_names

HOURS = 24
HOUR_S = 3600.0
MOST_HOURS = 168  # a week


@dataclass(frozen=True, slots=True)
class DayDemand:
    """Mean requests/s of each hour, and where they are from."""

    rates_per_s: tuple[float, ...]
    source: str

    @property
    def peak_per_s(self) -> float:
        """Of the busiest hour."""
        return max(self.rates_per_s)


def day_demand(scenario: Scenario, table: Path | None = None, peak_per_s: float | None = None) -> DayDemand:
    """Of a CSV, else of the workload; scaled to a peak where one is given. Raises FleetcastError."""
    demand = read_demand(table) if table is not None else _of_workload(scenario)
    if peak_per_s is None:
        return demand
    if not 0 < peak_per_s < 1e9:
        raise FleetcastError(f"--rate {peak_per_s:g}: give requests/s above 0")
    factor = peak_per_s / demand.peak_per_s
    return DayDemand(
        tuple(rate * factor for rate in demand.rates_per_s), f"{demand.source}, scaled to a peak of {peak_per_s:g}/s"
    )


def read_demand(path: Path) -> DayDemand:
    """A CSV with the columns hour (0, 1, ... in order) and request_rate (requests/s); raises FleetcastError."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FleetcastError(f"{path}: cannot be read ({reason}); give a CSV with hour,request_rate") from None
    except csv.Error as error:
        raise FleetcastError(f"{path}: is no CSV ({error}); give one with hour,request_rate") from None
    if not rows or not {"hour", "request_rate"} <= set(rows[0]):
        raise FleetcastError(f"{path}: lacks the columns hour and request_rate; its first line must name them")
    if not 2 <= len(rows) <= MOST_HOURS:
        raise FleetcastError(f"{path}: has {len(rows)} hours; give 2 to {MOST_HOURS}")
    rates = []
    for number, row in enumerate(rows):
        try:
            hour, rate = int(row["hour"]), float(row["request_rate"])
        except (TypeError, ValueError):
            raise FleetcastError(f"{path}, line {number + 2}: {dict(row)} is no hour and request_rate") from None
        if hour != number:
            raise FleetcastError(f"{path}, line {number + 2}: hour = {hour}: give hours 0, 1, 2, ... in order")
        if not (math.isfinite(rate) and 0 <= rate < 1e9):
            raise FleetcastError(f"{path}, line {number + 2}: request_rate = {rate:g}: give requests/s of at least 0")
        rates.append(rate)
    if not max(rates) > 0:
        raise FleetcastError(f"{path}: no hour has a request_rate above 0; there is nothing to plan for")
    return DayDemand(tuple(rates), str(path))


def _of_workload(scenario: Scenario) -> DayDemand:
    workload = scenario.workload
    name = workload.trace or str((workload.generator or {}).get("name"))
    profiles = list(_profiles(workload))
    if profiles:
        hours = [
            sum(one.integral((h + 1) * HOUR_S) - one.integral(h * HOUR_S) for one in profiles) for h in range(HOURS)
        ]
        return DayDemand(tuple(n / HOUR_S * workload.rate_scale for n in hours), f"the rate profile of {name}")
    requests = load_requests(workload, scenario.seed)
    if requests.duration_s >= HOURS * HOUR_S - HOUR_S:
        return _of_hours(requests, name)
    return DayDemand((mean_rate(requests),) * HOURS, f"the mean rate of {name}, which says nothing of a day's course")


def _of_hours(requests: RequestTable, name: str) -> DayDemand:
    """Of a trace of a day or more, each hour; a last one that completes no day is broken off and left out."""
    counts = np.bincount((requests.arrival_s // HOUR_S).astype(int)).tolist()
    if len(counts) > MOST_HOURS + 1:
        raise FleetcastError(
            f"{name}: lasts {len(counts)} hours, of which a plan takes {MOST_HOURS} at most; cut it with"
            " workload.duration_s, or give the hours with --demand"
        )
    what = f"the {len(counts)} hours of {name}"
    if len(counts) % HOURS:
        counts.pop()
        what = f"the {len(counts)} whole hours of {name}"
    return DayDemand(tuple(count / HOUR_S for count in counts), what)


def _profiles(workload: WorkloadSection) -> Iterable[Profile]:
    """The courses of the rate whose sum is the workload's at a rate_scale of 1; none where it has no course."""
    if workload.trace in catalog_names():
        entry = catalog_entry(workload.trace or "")
        if "clients" in entry:
            for client in entry["clients"]:
                rates = client["request_rate"]
                yield Profile(
                    t_s=[HOUR_S * (hour + 0.5) for hour in range(len(rates))],
                    request_rate=rates,
                    period_s=HOURS * HOUR_S,
                )
        return
    if workload.generator is not None:
        arrivals = getattr(make_generator(workload.generator), "arrivals", None)
        profile = getattr(arrivals, "profile", None)
        if callable(profile):
            yield profile()
