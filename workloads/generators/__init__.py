"""Workloads made up by law: arrival processes, laws of length, and the generators that join them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from workloads.generators.arrivals import Constant, EmpiricalGaps, Gamma, Poisson, RateProfile, Weibull
from workloads.generators.build import build
from workloads.generators.clients import ClientMix
from workloads.generators.lengths import Empirical, Fixed, Lognormal, Uniform, Zipf
from workloads.generators.sessions import Sessions
from workloads.generators.synthetic import Synthetic
from workloads.request import RequestTable


class Generator(Protocol):
    """Whatever makes a workload of a seed."""

    def generate(self, seed: int, *, duration_s: float | None = None, num_requests: int | None = None) -> RequestTable:
        """Draw the requests before `duration_s`, at most `num_requests`; the same seed gives the same bytes."""
        ...


ARRIVALS: dict[str, type[Any]] = {
    "constant": Constant,
    "empirical": EmpiricalGaps,
    "gamma": Gamma,
    "poisson": Poisson,
    "profile": RateProfile,
    "weibull": Weibull,
}

LENGTHS: dict[str, type[Any]] = {
    "empirical": Empirical,
    "fixed": Fixed,
    "lognormal": Lognormal,
    "uniform": Uniform,
    "zipf": Zipf,
}

GENERATORS: dict[str, type[Any]] = {
    "clients": ClientMix,
    "sessions": Sessions,
    "synthetic": Synthetic,
}


def make_generator(spec: Mapping[str, Any], key: str = "workload.generator") -> Generator:
    """Build the generator that a scenario's table at `key` describes."""
    generator: Generator = build(spec, key, {"Generator": GENERATORS, "Arrivals": ARRIVALS, "Lengths": LENGTHS})
    return generator
