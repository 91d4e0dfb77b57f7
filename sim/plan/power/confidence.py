"""How sure so many runs make one: bounds of a rate and of a share, exact and one-sided."""

from __future__ import annotations

from math import ceil, log

from scipy.stats import beta, chi2


def highest_rate(events: int, hours: float, confidence: float) -> float:
    """Events an hour: with a higher rate, so few in so many hours would be less likely than 1 - confidence.

    Events come by themselves (Poisson; Garwood 1936). Without any it is -ln(1 - confidence) / hours, at 95 % the rule
    of three, 3 / hours.
    """
    return float(chi2.ppf(confidence, 2 * (events + 1))) / (2.0 * hours)


def highest_share(bad: int, runs: int, confidence: float) -> float:
    """Of all runs that might be drawn, the most that can be bad (Clopper and Pearson 1934); no bad one of three at
    95 %: 63 %.
    """
    return 1.0 if bad >= runs else float(beta.ppf(confidence, bad + 1, runs - bad))


def runs_needed(share: float, confidence: float) -> int:
    """Runs, none of them bad, that bring `highest_share` down to a share."""
    return ceil(log(1.0 - confidence) / log(1.0 - share))
