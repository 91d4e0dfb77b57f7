"""The trace catalog: workloads drawn from what published traces measure, by name.

Each catalog/NAME.toml holds `figures` (of the raw trace), and either `clients` or one stream: `arrivals` (rate,
quantile table of gaps with memory, rate profile), `prompt_tokens` and `output_tokens` (quantile tables), `tie` (their
rank copula on equal cells) and `prefix` (reuse of earlier prompts' blocks), where the source knows of it.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hardware_models.errors import FleetcastError, UnknownNameError
from workloads.generators import check
from workloads.generators.arrivals import Arrivals, EmpiricalGaps, Gamma, Poisson
from workloads.generators.clients import Client, ClientMix
from workloads.generators.joint import Checkerboard, draw_lengths
from workloads.generators.lengths import Empirical
from workloads.generators.prefixes import ReusedPrefixes
from workloads.generators.profile import Profile
from workloads.randomness import stream
from workloads.request import FloatArray, RequestTable

ROOT = Path(__file__).parent / "catalog"
HOUR_S = 3600.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Warped:
    """A process of unit rate on the clock of a rate profile."""

    profile: Profile
    unit_rate: Arrivals

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        return self.profile.warp(self.unit_rate, rng, duration_s=duration_s, num_requests=num_requests)


def catalog_names() -> list[str]:
    """Names of all traces in the catalog, sorted."""
    return sorted(path.stem for path in ROOT.glob("*.toml"))


@functools.cache
def catalog_entry(name: str) -> dict[str, Any]:
    """The entry of a trace as its TOML file has it; do not change it."""
    names = catalog_names()
    if name not in names:
        raise UnknownNameError("trace", name, names)
    return tomllib.loads((ROOT / f"{name}.toml").read_text(encoding="utf-8"))


def catalog_trace(
    name: str,
    seed: int,
    duration_s: float | None = None,
    num_requests: int | None = None,
    rate_scale: float = 1.0,
) -> RequestTable:
    """Draw a workload like the trace `name`: before `duration_s`, at most `num_requests`, by default as long as it.

    `rate_scale` multiplies the rate and leaves the clock of the rate profile, so the hours of a day, as it is; the
    lengths, in their order, are those of every other scale.
    """
    entry = catalog_entry(name)
    check.number("rate_scale", rate_scale, above=0)
    if duration_s is None and num_requests is None:
        duration_s, num_requests = _extent(entry)
    check.extent(name, duration_s, num_requests)
    if duration_s is not None and num_requests is None:
        rate = entry["figures"].get("mean_rate_per_s", 1.0)
        check.affordable(rate * rate_scale * duration_s)
    if "clients" in entry:
        mix = ClientMix(clients=tuple(_client(one, rate_scale) for one in entry["clients"]))
        return replace(mix.generate(seed, duration_s=duration_s, num_requests=num_requests), source=name)
    rng = stream(seed, "arrivals")
    arrival = _arrivals(entry["arrivals"], rate_scale).times(rng, duration_s=duration_s, num_requests=num_requests)
    if not arrival.size:
        raise FleetcastError(f"trace {name} holds no requests before duration_s = {duration_s}; give a longer time")
    laws = (Empirical(**entry["prompt_tokens"]), Empirical(**entry["output_tokens"]))
    prompt, output = draw_lengths(seed, "", arrival.size, laws, _tie(name))
    prefixes = _prefixes(entry)
    return RequestTable.build(
        source=name,
        arrival_s=arrival,
        prompt_tokens=prompt,
        output_tokens=output,
        prefix_hashes=None if prefixes is None else prefixes.hashes(seed, prompt),
        prefix_block_tokens=None if prefixes is None else prefixes.prefix_block_tokens,
    )


def _extent(entry: dict[str, Any]) -> tuple[float | None, int | None]:
    """The trace's own length: its time, or its count where it has no clock."""
    duration_s = entry.get("default_duration_s", entry["figures"].get("duration_s"))
    return duration_s, None if duration_s is not None else entry["figures"]["requests"]


def _arrivals(fitted: dict[str, Any], rate_scale: float) -> Arrivals:
    rate = fitted["request_rate"] * rate_scale
    if "gaps" not in fitted:
        return Poisson(request_rate=rate)
    gaps = {key: value for key, value in fitted.items() if key not in ("request_rate", "profile")}
    shape = fitted.get("profile")
    if shape is None:
        return EmpiricalGaps(request_rate=rate, **gaps)
    rates = [relative * rate for relative in shape["relative_rate"]]
    profile = Profile(t_s=shape["t_s"], request_rate=rates, period_s=shape["period_s"])
    return Warped(profile, EmpiricalGaps(request_rate=1.0, **gaps))


def _client(fitted: dict[str, Any], rate_scale: float) -> Client:
    """A client with gamma gaps on the clock of its hourly rates."""
    hours = [HOUR_S * (hour + 0.5) for hour in range(len(fitted["request_rate"]))]
    rates = [rate * rate_scale for rate in fitted["request_rate"]]
    unit = Gamma(request_rate=1.0, burstiness=fitted["gap_cv"] ** -2)
    return Client(
        name=fitted["name"],
        arrivals=Warped(Profile(t_s=hours, request_rate=rates, period_s=DAY_S), unit),
        prompt_tokens=Empirical(**fitted["prompt_tokens"]),
        output_tokens=Empirical(**fitted["output_tokens"]),
    )


@functools.cache
def _tie(name: str) -> Checkerboard:
    return Checkerboard(catalog_entry(name)["tie"]["weights"])


def _prefixes(entry: dict[str, Any]) -> ReusedPrefixes | None:
    fitted = entry.get("prefix")
    if fitted is None:
        return None
    return ReusedPrefixes(**{key: value for key, value in fitted.items() if key != "hit_fraction"})
