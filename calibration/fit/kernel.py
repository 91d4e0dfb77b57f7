"""Fits one formula to one set of timings, and judges it on whole regions of sizes it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.fit.robust import Fitted, fit_parameters, held_out, robust_spread, split_by_region
from hardware_models.errors import FleetcastError
from hardware_models.fits import REGIMES, KernelFit, regimes
from hardware_models.price import Price
from hardware_models.provenance import Source

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MAX_POINTS = 4000  # in a fit: more change nothing but the wait
FEWEST_POINTS = 60  # that make a fit, a fifth of them kept out
KEPT_OUT_SHARE = 0.2  # of the regions of sizes
FEWEST = 30  # in a regime, to trust its own spread
UNTRUSTED = 0.3  # weight of timings taken under other conditions than a served model's


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Measured points of one kernel and format."""

    sizes: dict[str, Floats]  # name -> (points,)
    seconds: Floats  # (points,)
    typical: Mask  # (points,): measured as a served model would run it; the others inform the fit, but judge nothing

    def pick(self, chosen: NDArray[np.int64] | Mask) -> Timings:
        """A subset."""
        sizes = {name: values[chosen] for name, values in self.sizes.items()}
        return Timings(sizes=sizes, seconds=self.seconds[chosen], typical=self.typical[chosen])


PriceOf = Callable[[Mapping[str, float], Timings], Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Timings of one kernel in one format on one device by one benchmark, and the formula that prices them."""

    device: str  # of the catalog
    operator: str
    key: str  # of the fit: the format, and the kernel's variant
    origin: str  # of `calibration.fit.origins`
    timings: Timings
    price: PriceOf  # parameters and points to prices, under the conditions the points were measured in
    start: Mapping[str, float]  # first guess of the parameters
    prior: Mapping[str, float]  # standard deviations of the logarithms around `start`
    regions: tuple[str, ...]  # sizes whose factors of two bound the regions that are kept out of a fit
    source: Source
    facts: Mapping[str, float] = field(default_factory=dict)  # parameters that are known, and no part of the fit
    fewest_points: int = FEWEST_POINTS  # that make a fit; fewer where priors stand behind every parameter
    kept_out_share: float = KEPT_OUT_SHARE  # of the regions, about

    @property
    def fewest(self) -> int:
        """Points that a fit needs."""
        return max(self.fewest_points, 2 * len(self.start))

    def kept_out(self) -> Mask:
        """(points,): those whose region a fit does not see."""
        return split_by_region({name: self.timings.sizes[name] for name in self.regions}, self.kept_out_share)


def fit_kernel(dataset: Dataset) -> KernelFit:
    """Fit a data set's parameters on four fifths of the regions of sizes, and report on the rest.

    Raises FleetcastError for too few points.
    """
    timings, price, start = dataset.timings, dataset.price, dataset.start
    if len(timings.seconds) < dataset.fewest:
        raise FleetcastError(
            f"{dataset.operator} {dataset.key} on {dataset.device}: {len(timings.seconds)} points cannot fix"
            f" {len(start)} parameters; measure at least {dataset.fewest}"
        )
    kept_out = dataset.kept_out()
    training, unseen = timings.pick(~kept_out), timings.pick(kept_out & timings.typical)
    if not len(unseen.seconds) or not np.any(training.typical):
        raise FleetcastError(
            f"{dataset.operator} {dataset.key} on {dataset.device}: its points lie in too few regions of sizes to keep"
            " some of them out of the fit; measure more sizes"
        )
    sample = training.pick(np.random.default_rng(11).permutation(len(training.seconds))[:MAX_POINTS])
    tightened = {
        name: spread / np.sqrt(max(1.0, len(sample.seconds) / 300.0)) for name, spread in dataset.prior.items()
    }
    fitted = fit_parameters(
        lambda parameters: price(parameters, sample).seconds,
        sample.seconds,
        start,
        tightened,
        np.where(sample.typical, 1.0, UNTRUSTED),
    )
    seen = training.pick(training.typical)
    residual = _spreads(price(fitted.parameters, seen), seen.seconds, _determined(fitted, tightened))
    doubt = _doubt(price, fitted, sample)
    fit = KernelFit(
        key=dataset.key,
        parameters=fitted.parameters | dict(dataset.facts),
        covariance=_with_sure(fitted.covariance, len(dataset.facts)).tolist(),
        valid={name: (float(values.min()), float(values.max())) for name, values in timings.sizes.items()},
        residual=residual,
        doubt=doubt,
        held_out=held_out(np.ones(1), np.ones(1), np.ones(1)),
        points=len(training.seconds),
        source=dataset.source,
    )
    predicted = price(fitted.parameters, unseen)
    return fit.model_copy(update={"held_out": held_out(predicted.seconds, unseen.seconds, fit.sigma(predicted))})


def _with_sure(covariance: Floats, more: int) -> Floats:
    """The covariance with so many parameters more, which are not in doubt."""
    n = len(covariance)
    larger = np.zeros((n + more, n + more))
    larger[:n, :n] = covariance
    return larger


def _determined(fitted: Fitted, prior: Mapping[str, float]) -> float:
    """How many parameters the points determine, and not their priors (MacKay, Neural Computation 4, 1992)."""
    wide = np.array([prior.get(name, np.inf) for name in fitted.parameters])
    return float(np.sum(np.clip(1.0 - np.diag(fitted.covariance) / wide**2, 0.0, 1.0)))


def _spreads(price: Price, seconds: Floats, determined: float) -> dict[str, float]:
    """Residual spread by regime; one with few points takes that of all.

    determined: parameters that the points fixed, which leave as many fewer errors to judge by.
    """
    free = max(1.0, len(seconds) - determined)
    error, regime = np.log(seconds / price.seconds) * np.sqrt(len(seconds) / free), regimes(price)
    overall = robust_spread(error)
    return {
        name: robust_spread(error[regime == i]) if np.count_nonzero(regime == i) >= FEWEST else overall
        for i, name in enumerate(REGIMES)
    }


def _doubt(price: PriceOf, fitted: Fitted, sample: Timings) -> dict[str, float]:
    """Spread of log(predicted) by regime that the parameters' covariance causes: median over the points."""
    few = sample.pick(np.arange(min(400, len(sample.seconds))))
    base = price(fitted.parameters, few)
    slopes = []
    for name, value in fitted.parameters.items():
        moved = price({**fitted.parameters, name: value * 1.02}, few)
        slopes.append(np.log(moved.seconds / base.seconds) / np.log(1.02))
    jacobian = np.stack(slopes, axis=1)
    spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", jacobian, fitted.covariance, jacobian), 0.0))
    regime = regimes(base)
    return {
        name: float(np.median(spread[regime == i])) if np.any(regime == i) else float(np.median(spread))
        for i, name in enumerate(REGIMES)
    }
