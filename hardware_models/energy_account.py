"""What energy at the wall comes to at a site: kilowatt-hours, carbon and money, at figures that may follow the hours.

    site = wall x PUE,   carbon = sum over time of site x intensity,   money = the same with the price

Watts are constant between given instants, intensities and prices within each hour of the day, so the sums are exact.
Carbon of making the servers counts by the hours they are held (arXiv 2211.02001, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_models.errors import FleetcastError
from hardware_models.facility import facility_watts
from hardware_models.site_specs import EmbodiedSpec
from hardware_models.specs import HOURS

Floats = NDArray[np.float64]
J_PER_KWH = 3.6e6
HOUR_S = 3600.0
HOURS_A_YEAR = 8760.0


@dataclass(frozen=True, slots=True)
class DayProfile:
    """A figure by the hour of the day, the same every day; one figure stands for all hours."""

    by_hour: tuple[float, ...]

    def means(self, edges_h: ArrayLike) -> Floats:
        """Of each interval between rising instants, in hours since some midnight: (instants - 1,)."""
        edges = np.asarray(edges_h, float)
        if len(self.by_hour) == 1:
            return np.full(len(edges) - 1, self.by_hour[0])
        hourly = np.asarray(self.by_hour, float)
        so_far = np.concatenate([[0.0], np.cumsum(hourly)])
        days, hours = np.divmod(edges, HOURS)
        sums = days * so_far[-1] + np.interp(hours, np.arange(HOURS + 1), so_far)
        lengths, at = np.diff(edges), (np.floor(edges[:-1]) % HOURS).astype(int)
        # of an interval too short to divide by, the figure of its hour
        return np.asarray(np.where(lengths > 0.0, np.diff(sums) / np.where(lengths > 0.0, lengths, 1.0), hourly[at]))


@dataclass(frozen=True, slots=True)
class Bill:
    """What energy came to."""

    wall_j: float
    site_j: float
    kgco2e: float
    usd: float

    @property
    def site_kwh(self) -> float:
        """Kilowatt-hours that the site drew."""
        return self.site_j / J_PER_KWH


@dataclass(frozen=True, slots=True)
class Site:
    """Where computers stand: overhead, grid and price."""

    pue: float
    gco2e_per_kwh: DayProfile
    usd_per_kwh: DayProfile
    start_hour: float = 0.0  # of the day, at instant 0

    def bill(self, edges_s: ArrayLike, wall_w: ArrayLike) -> Bill:
        """Of watts at the wall that are constant between rising instants (one more than watts)."""
        edges, watts = np.asarray(edges_s, float), np.asarray(wall_w, float)
        if len(edges) != len(watts) + 1 or not np.all(np.diff(edges) >= 0.0):
            raise FleetcastError("edges_s must hold one rising instant more than there are watts")
        wall_j = watts * np.diff(edges)
        site_j = facility_watts(watts, self.pue) * np.diff(edges)
        hours = self.start_hour + edges / HOUR_S
        grams = float(np.sum(site_j * self.gco2e_per_kwh.means(hours))) / J_PER_KWH
        usd = float(np.sum(site_j * self.usd_per_kwh.means(hours))) / J_PER_KWH
        return Bill(float(wall_j.sum()), float(site_j.sum()), grams / 1e3, usd)


def embodied_kgco2e(spec: EmbodiedSpec, server_hours: float, gpus_per_server: float) -> float:
    """Share of the making of servers that holding them for so many hours bears (arXiv 2211.02001, section 3.1)."""
    whole = spec.kgco2e_per_server + gpus_per_server * spec.kgco2e_per_gpu
    return whole * server_hours / (spec.lifetime_years * HOURS_A_YEAR * spec.use_fraction)


def flat(figure: float) -> DayProfile:
    """The same at all hours."""
    return DayProfile((figure,))


def profile(figures: Sequence[float]) -> DayProfile:
    """One figure or 24; raises FleetcastError for another number of them."""
    if len(figures) not in (1, HOURS):
        raise FleetcastError(f"{len(figures)} figures of a day: give one, or one for each of its {HOURS} hours")
    return DayProfile(tuple(figures))
