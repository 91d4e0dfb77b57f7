"""What a fit should reach on sizes it has not seen."""

from __future__ import annotations

from hardware_models.fits import FitFile, HeldOut
from hardware_models.link_parameters import FOLDER as LINKS

# Median and 90th percentile of the absolute error, for the kinds of kernels that have a target.
ERRORS: dict[str, tuple[float, float]] = {
    "gemm": (0.05, 0.15),
    "attention_prefill": (0.06, 0.18),
    "attention_decode": (0.06, 0.18),
    "attention_training": (0.06, 0.18),
    "power": (0.10, float("inf")),
    LINKS: (0.07, float("inf")),
}
UNTARGETED = (float("inf"), float("inf"))
COVERAGE = (0.85, 0.95)  # of the 90 % interval; honest either way
FEW = 20  # points, below which coverage says nothing


def targets(file: FitFile) -> tuple[float, float]:
    """Largest median and 90th percentile that meet the target of a file's kind of kernel; infinite where it has
    none.
    """
    return ERRORS.get(LINKS if file.device == LINKS else file.operator, UNTARGETED)


def missed(file: FitFile, judged: HeldOut) -> list[str]:
    """Names of the targets that a fit of this file misses."""
    median, p90 = targets(file)
    names = []
    if judged.median > median:
        names.append("median")
    if judged.p90 > p90:
        names.append("p90")
    if judged.points >= FEW and not COVERAGE[0] <= judged.coverage <= COVERAGE[1]:
        names.append("interval")
    return names


def meets(file: FitFile, judged: HeldOut) -> str:
    """`met`, or which targets were missed; "-" for an interval met where errors have no target."""
    names = missed(file, judged)
    if names:
        return f"missed: {', '.join(names)}"
    return "-" if targets(file) == UNTARGETED else "met"
