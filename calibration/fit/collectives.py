"""Fits NCCL's collectives and serving engines' all-reduces, one file a link."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.fit.robust import Fitted, fit_parameters, held_out, robust_spread, split_by_region
from calibration.sources.collective_tables import KEYS, collective_tables
from hardware_models import catalog
from hardware_models.collective_times import CustomParameters, NcclParameters, Times, custom_times, nccl_times
from hardware_models.collectives import KINDS
from hardware_models.fits import FitFile, HeldOut, KernelFit
from hardware_models.link_parameters import ASSUMED_SPREAD, FOLDER, REGIMES, by_regime, link_efficiencies, regimes
from hardware_models.provenance import Source
from hardware_models.specs import LinkSpec

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
BACKENDS = ("nccl", "nccl/mapped", "custom")
PRIOR_SPREAD = 0.7  # of the logarithms around the assumed parameters: decides only what no point speaks of
PAIRS_PRIOR_SPREAD = 0.2  # of links with a few large messages measured: the rest is as on other links of the kind
FARTHEST = 50.0  # times the assumed parameters: where a search that strays turns round
FOLDS = 5
SMALLEST_SPREAD = 0.05  # what repeated runs differ by
FEWEST = 20  # points in a regime, to trust its own spread
SOURCES = {
    "own": "measured by `fleetcast calibrate measure`",
    "aiconfigurator": "AI Configurator communication tables, NCCL 2.27 and 2.29, vLLM 0.14 and 0.24 in graphs"
    " (github.com/ai-dynamo/aiconfigurator, Apache-2.0)",
    "vidur": "Vidur network profiles (github.com/microsoft/vidur, MIT)",
}


@dataclass(frozen=True, slots=True)
class Timings:
    """Measured points of one library on one link; arrays (points,)."""

    kinds: NDArray[np.str_]
    ranks: Floats
    payload: Floats
    seconds: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Timings:
        """Of a `collective` table."""
        numbers = (rows[name].to_numpy(float) for name in ("ranks", "payload_bytes", "seconds"))
        return cls(rows["kind"].to_numpy(str), *numbers)

    def pick(self, chosen: Mask) -> Timings:
        """A subset."""
        return Timings(self.kinds[chosen], self.ranks[chosen], self.payload[chosen], self.seconds[chosen])


def fit_collectives(
    data: Path | None, date: datetime.date, own: pd.DataFrame | None = None, links: Collection[str] | None = None
) -> list[FitFile]:
    """Fit every link there are timings of: files of `hardware_models/calibrated/links/`, by name of the link.

    links: only these; None: all. Other arguments as of `collective_points`.
    """
    files = []
    for link, rows in collective_points(data, own).groupby("link"):
        if links is None or link in links:
            fits = [_fit(catalog.link(str(link)), str(key), part) for key, part in rows.groupby("backend")]
            files.append(FitFile(device=FOLDER, operator=str(link), date=date, fit=fits))
    return files


def collective_points(data: Path | None, own: pd.DataFrame | None = None) -> pd.DataFrame:
    """Timings that fits are made of: KEYS, seconds, origin.

    data: folder of published tables, one folder a source; None: none.
    own: our own `collective` measurements; where they hold a link and backend, published ones of it are left aside.
    """
    table = collective_tables(data) if data is not None else None
    if own is None:
        return table if table is not None else pd.DataFrame(columns=[*KEYS, "seconds", "origin"])
    own = own[own["backend"].isin(BACKENDS)].assign(origin="own")[[*KEYS, "seconds", "origin"]]
    if table is None or table.empty:
        return own
    seen = set(zip(own["link"], own["backend"], strict=True))
    fresh = [pair not in seen for pair in zip(table["link"], table["backend"], strict=True)]
    return pd.concat([own, table[fresh]], ignore_index=True)


def fit_timings(link: LinkSpec, key: str, timings: Timings, prior_spread: float = PRIOR_SPREAD) -> Fitted:
    """Parameters of one backend of BACKENDS on one link, from all the points given."""
    start = _start(link, key)

    def seconds(parameters: Mapping[str, float]) -> Floats:
        near = {name: float(np.clip(parameters[name], at / FARTHEST, at * FARTHEST)) for name, at in start.items()}
        return predict(link, key, near, timings).seconds

    return fit_parameters(seconds, timings.seconds, start, prior_spread)


def predict(link: LinkSpec, key: str, parameters: Mapping[str, float], timings: Timings) -> Times:
    """Times of measured points under `parameters`, each (points,)."""
    if key == "custom":
        return custom_times(timings.payload, timings.ranks, link, CustomParameters(**parameters))
    table = NcclParameters(**parameters)
    fixed, wire = np.empty_like(timings.seconds), np.empty_like(timings.seconds)
    for kind in np.unique(timings.kinds):
        mine = timings.kinds == kind
        times = nccl_times(str(kind), timings.payload[mine], timings.ranks[mine], link, table)
        fixed[mine], wire[mine] = times.fixed_s, times.wire_s
    return Times(fixed, wire)


def errors(link: LinkSpec, key: str, parameters: Mapping[str, float], timings: Timings) -> HeldOut:
    """How far `parameters` are off on points that they were not fitted to; coverage is not judged."""
    predicted = predict(link, key, parameters, timings)
    return held_out(predicted.seconds, timings.seconds, np.full_like(timings.seconds, np.inf))


def unseen(timings: Timings) -> Mask:
    """Points kept out of a fit: a fifth of the cells of kind x ranks x a factor of two in bytes; of a handful of cells,
    every fifth point.
    """
    chosen = split_by_region(_cells(timings))
    return chosen if np.any(chosen) else np.arange(len(timings.seconds)) % FOLDS == 2


def _cells(timings: Timings) -> dict[str, Floats]:
    kind = np.array([KINDS.index(str(name)) for name in timings.kinds], float)
    return {"kind": 2.0**kind, "ranks": timings.ranks, "payload_bytes": timings.payload}


def _out_of_fold(link: LinkSpec, key: str, timings: Timings, prior_spread: float) -> tuple[Floats, Times]:
    """log(measured / predicted) of points (n,), each by a fit that has not seen its cell, and what was predicted."""
    error, fixed, wire = (np.empty_like(timings.seconds) for _ in range(3))
    left = np.ones(len(timings.seconds), bool)
    for fold in range(FOLDS):
        chosen = split_by_region(_cells(timings), 1.0 / (FOLDS - fold), seed=100 + fold) & left
        left &= ~chosen
        if not np.any(chosen):
            continue
        fitted = fit_timings(link, key, timings.pick(~chosen), prior_spread)
        times = predict(link, key, fitted.parameters, timings.pick(chosen))
        fixed[chosen], wire[chosen] = times.fixed_s, times.wire_s
        error[chosen] = np.log(timings.seconds[chosen] / times.seconds)
    return error, Times(fixed, wire)


def _fit(link: LinkSpec, key: str, rows: pd.DataFrame) -> KernelFit:
    timings = Timings.of(rows)
    kept_out = unseen(timings)
    training, judged = timings.pick(~kept_out), timings.pick(kept_out)
    origins = sorted(set(rows["origin"]), key=list(SOURCES).index)
    prior = PAIRS_PRIOR_SPREAD if origins == ["vidur"] else PRIOR_SPREAD
    fitted = fit_timings(link, key, training, prior)
    # errors on cells a fit has not seen hold the doubt about its parameters already
    residual = _spreads(*_out_of_fold(link, key, training, prior))
    source = Source(grade="measured", text="; ".join(SOURCES[name] for name in origins))
    valid = {name: (float(rows[name].min()), float(rows[name].max())) for name in ("ranks", "payload_bytes")}
    unseen_times = predict(link, key, fitted.parameters, judged)
    sigma = by_regime(residual, unseen_times)
    return KernelFit(
        key=key,
        parameters=fitted.parameters,
        covariance=fitted.covariance.tolist(),
        valid=valid,
        residual=residual,
        held_out=held_out(unseen_times.seconds, judged.seconds, sigma),
        points=len(training.seconds),
        source=source,
    )


def _spreads(error: Floats, times: Times) -> dict[str, float]:
    """Spread of errors (n,) by regime; one with few points takes that of all, one with none is assumed."""
    regime, spreads = regimes(times), {}
    for i, name in enumerate(REGIMES):
        mine = error[regime == i]
        found = robust_spread(mine if len(mine) >= FEWEST else error)
        spreads[name] = max(found, SMALLEST_SPREAD) if len(mine) else ASSUMED_SPREAD[name]
    return spreads


def _start(link: LinkSpec, key: str) -> dict[str, float]:
    """What is assumed of the link's kind, less the parameters of mechanisms that this link lacks."""
    table = link_efficiencies()[link.kind]
    assumed = {"nccl": table.nccl, "nccl/mapped": table.mapped, "custom": table.custom}[key]
    start = dict(assumed or link_efficiencies()["nvlink"].custom or {})
    if not link.in_switch_reduction:
        start = {name: value for name, value in start.items() if not name.startswith("switch_")}
    return start
