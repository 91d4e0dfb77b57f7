"""Calibrated kernels as data: `calibrated/DEVICE/OPERATOR.toml` holds the fitted parameters of one kind of kernel on
one device, how sure they are, where they are valid, and how far off they were on measurements kept out of the fit.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from hardware_models.errors import FleetcastError
from hardware_models.kernels import (
    attention_decode,
    attention_prefill,
    attention_training,
    elementwise,
    gemm,
    grouped_gemm,
)
from hardware_models.price import Price
from hardware_models.provenance import Frozen, Source

FOLDER = Path(__file__).parent / "calibrated"
REMEDY = "write it anew with `fleetcast calibrate fit`"
PARAMETERS = {  # operator -> what its formula needs
    "gemm": gemm.START,
    "grouped_gemm": grouped_gemm.START,
    "elementwise": elementwise.START,
    "elementwise_stream": elementwise.START,
    "attention_prefill": attention_prefill.START,
    "attention_decode": attention_decode.START,
    "attention_training": attention_training.START,
}
REGIMES = ("launch", "memory", "compute")  # what takes most of a kernel's time


class HeldOut(Frozen):
    """Errors on points kept out of the fit: shares of the measured time."""

    points: int = Field(ge=0)
    median: float = Field(ge=0)  # of the absolute error
    p90: float = Field(ge=0)
    bias: float  # median signed error, predicted over measured less 1
    coverage: float = Field(ge=0, le=1)  # share of points inside the 90 % interval


class KernelFit(Frozen):
    """One formula's parameters for one arithmetic; all parameters are positive, and their logarithms were fitted."""

    key: str  # what tells this fit from its neighbours in the file: a dtype, or "dtype/kv_dtype"
    parameters: dict[str, float]
    covariance: list[list[float]]  # of the logarithms of `parameters`, in their order
    valid: dict[str, tuple[float, float]]  # range of each size measured
    residual: dict[str, float]  # regime -> standard deviation of log(measured / predicted), robust
    # regime -> standard deviation of log(predicted) that the covariance causes
    doubt: dict[str, float] = Field(default_factory=dict)
    held_out: HeldOut
    points: int = Field(gt=0)
    source: Source

    @model_validator(mode="after")
    def _shapes_agree(self) -> KernelFit:
        n = len(self.parameters)
        if len(self.covariance) != n or any(len(row) != n for row in self.covariance):
            raise ValueError(f"covariance must be {n} x {n}, one row a parameter")
        for name, value in self.parameters.items():
            if not 0 < value < np.inf:
                raise ValueError(f"parameter {name} = {value} must be positive and finite")
        return self

    def sigma(self, price: Price) -> NDArray[np.float64]:
        """Standard deviation of log(measured / predicted) of each price, by what takes most of its time."""
        spreads = np.array([np.hypot(self.residual[r], self.doubt.get(r, 0.0)) for r in REGIMES])
        return np.asarray(spreads[regimes(price)])


def regimes(price: Price) -> NDArray[np.int64]:
    """Index into REGIMES of each price."""
    launch = price.launch_s > np.maximum(price.compute_s, price.memory_s)
    return np.where(launch, 0, np.where(price.compute_bound, 2, 1))


class FitFile(Frozen):
    """All fits of one kind of kernel on one device."""

    device: str  # a GPU of the catalog
    operator: str
    date: datetime.date
    fit: list[KernelFit]

    def find(self, key: str) -> KernelFit | None:
        """The fit of this key, if measured."""
        return next((fit for fit in self.fit if fit.key == key), None)


@functools.cache
def fit_file(device: str, operator: str) -> FitFile | None:
    """The calibration of a kind of kernel on a device, or None where nobody measured it; raises FleetcastError."""
    path = FOLDER / device / f"{operator}.toml"
    return read_fit_file(path) if path.is_file() else None


def read_fit_file(path: Path) -> FitFile:
    """A file DEVICE/OPERATOR.toml; raises FleetcastError for one that does not hold what its name says."""
    device, operator = path.parent.name, path.stem
    try:
        loaded = FitFile.model_validate(tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise FleetcastError(f"{path}: {_reason(error)}; {REMEDY}") from None
    if loaded.device != device or loaded.operator != operator:
        raise FleetcastError(
            f"{path}: is the calibration of {loaded.operator} on {loaded.device}, not of {operator} on {device};"
            " a calibration holds for the device it was measured on"
        )
    for fit in loaded.fit:
        lacking = [name for name in PARAMETERS.get(operator, ()) if name not in fit.parameters]
        if lacking:
            raise FleetcastError(f"{path}: {fit.key} lacks the parameter '{lacking[0]}'; {REMEDY}")
    return loaded


def _reason(error: ValidationError | tomllib.TOMLDecodeError) -> str:
    """The first thing wrong, and where."""
    if isinstance(error, tomllib.TOMLDecodeError):
        return str(error)
    first = error.errors()[0]
    return ": ".join([".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")]).removeprefix(": ")
