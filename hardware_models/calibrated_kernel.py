"""Which fitted parameters price a kernel on a device: its own, or its nearest measured relatives' scaled by data sheet.

Parameters are shares of the data sheet (peak, bandwidth, multiprocessors, cache), so they carry over to another
device; how well, `calibrated/relatives.toml` says, from predicting each measured device without its own measurements.
A variation of a catalogued device (`variation_of`) takes that device's parameters, as its closest relative.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import FleetcastError
from hardware_models.fits import FOLDER, REGIMES, KernelFit, fit_file, regimes
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

# Formats whose units, widths and kernels are the same: a fit of one is a fit of the other.
ALIKE = {"fp16": "bf16"}
# Spreads of log(measured / predicted) that a substitute adds; assumed.
OTHER_VARIANT = 0.15  # the plain kernel in place of a windowed or wide one
OTHER_FORMAT = 0.25  # another number format
UNKNOWN_SPREAD = 0.35  # no relative ever held out
# Figures of a GPU that no kernel's time or power depends on, and those that its power alone depends on.
APART = {"name", "source", "variation_of", "memory_bytes", "pcie", "scale_up", "matrix_clock_hz"}
WATTS = {"tdp_w", "idle_w"}
POWER = "power"  # file of `calibrated/DEVICE/` that holds watts, not a kernel's times


@dataclass(frozen=True, slots=True)
class CalibratedKernel:
    """Parameters of one kind of kernel on one device, and how far to trust prices made with them."""

    parameters: Mapping[str, float]
    spread: Floats  # (regimes,), standard deviation of log(measured / predicted)
    grade: str  # measured on this device, or assumed from relatives
    source: str
    valid: Mapping[str, tuple[float, float]]

    def sigma(self, price: Price) -> Floats:
        """Standard deviation of log(measured / predicted) of each price."""
        return np.asarray(self.spread[regimes(price)])


def alike(dtype: str) -> str:
    """The format whose calibration serves this one."""
    return ALIKE.get(dtype, dtype)


@functools.cache
def calibrated_kernel(spec: GpuSpec, operator: str, keys: tuple[str, ...]) -> CalibratedKernel:
    """The kernel's parameters for a format on a device.

    operator: a file of `calibrated/DEVICE/`. keys: the format, as "bf16/fp8", with a variant of the kernel first where
    there is one. Raises FleetcastError where no device of the catalog was ever timed running this kind of kernel.
    """
    if spec.variation_of is not None:
        return _varied(spec, spec.variation_of, operator, keys)
    for candidates in (_in_this_format(keys), _in_others(keys)):
        own = fit_file(spec.name, operator) if _is_catalogued(spec) else None
        for key, extra in candidates if own else []:
            fit = own.find(key) if own else None
            if fit is not None:
                return _kernel([fit], extra, "assumed" if extra else fit.source.grade, f"{key}: {fit.source.text}")
        for key, extra in candidates:
            near, distance = relatives(spec, operator, key)
            if near:
                spread = float(np.hypot(extra, transfer_spread(operator, distance)))
                names = ", ".join(sorted(near))
                return _kernel(list(near.values()), spread, "assumed", f"{key} of {names}, scaled by data sheet")
    raise FleetcastError(
        f"no device was ever timed for {operator} in {keys[0]}: run `fleetcast calibrate measure` on one, then"
        " `fleetcast calibrate fit`"
    )


def _varied(spec: GpuSpec, original_name: str, operator: str, keys: tuple[str, ...]) -> CalibratedKernel:
    """The original's parameters, less sure by what a family's devices miss each other by, unless nothing that counts
    was changed.
    """
    from hardware_models import catalog

    original = catalog.gpu(original_name)
    found = calibrated_kernel(original, operator, keys)
    apart = APART if operator == POWER else APART | WATTS
    if spec.model_dump(exclude=apart) == original.model_dump(exclude=apart):
        return found
    spread = np.hypot(found.spread, transfer_spread(operator, "family"))
    return replace(found, spread=spread, grade="assumed", source=f"{found.source}; of {original_name}, by data sheet")


def relatives(spec: GpuSpec, operator: str, key: str) -> tuple[dict[str, KernelFit], str]:
    """Measured devices nearest to one, by name, itself left out, and how near: see `nearest`.

    A user's variation of a catalogued device has that device in its family.
    """
    measured = {}
    for folder in sorted(FOLDER.iterdir()):
        own = folder.name == spec.name and _is_catalogued(spec)
        file = None if own or not folder.is_dir() or folder.name == "links" else fit_file(folder.name, operator)
        fit = file.find(key) if file else None
        if fit is not None:
            measured[folder.name] = fit
    return nearest(spec, measured)


def nearest(spec: GpuSpec, measured: Mapping[str, KernelFit]) -> tuple[dict[str, KernelFit], str]:
    """Of fits by name of their device those of a device's "family", or, where it has none, all: "any".

    A family shares architecture and kind of memory.
    """
    from hardware_models import catalog

    family = {name: fit for name, fit in measured.items() if _family(catalog.gpu(name)) == _family(spec)}
    return (family, "family") if family else (dict(measured), "any")


@functools.cache
def transfer_spread(operator: str, distance: str) -> float:
    """Spread of log(measured / predicted) of devices predicted from their relatives; a family that nobody was left out
    of is no further than devices outside one.
    """
    path = FOLDER / "relatives.toml"
    table = tomllib.loads(path.read_text()) if path.is_file() else {}
    spreads = table.get(operator, {})
    return float(spreads.get(distance, min(UNKNOWN_SPREAD, spreads.get("any", UNKNOWN_SPREAD))))


def _family(spec: GpuSpec) -> tuple[str, bool]:
    return spec.architecture, spec.memory_type.upper().startswith("HBM")


def _is_catalogued(spec: GpuSpec) -> bool:
    """Is this the catalog's device, not a user's variation of it under the same name?"""
    from hardware_models import catalog

    return spec.name in catalog.names("gpu") and spec == catalog.gpu(spec.name)


def _in_this_format(keys: tuple[str, ...]) -> list[tuple[str, float]]:
    """The keys, best first, with the spread that taking one in place of the first adds."""
    same = ("/".join(alike(part) for part in key.split("/")) for key in keys)
    return [(key, OTHER_VARIANT if i else 0.0) for i, key in enumerate(same)]


def _in_others(keys: tuple[str, ...]) -> list[tuple[str, float]]:
    """The nearest formats in place of the keys', with the spread that adds."""
    found = []
    for key, _ in _in_this_format(keys):
        formats, _, variant = key.partition(":")
        compute, _, stored = formats.partition("/")
        others = (f"{compute}/{compute}", f"bf16/{stored}", "bf16/bf16") if stored else ("bf16",)
        found += [(f"{other}:{variant}" if variant else other, OTHER_FORMAT) for other in others if other != formats]
    return found


def combine(fits: list[KernelFit]) -> dict[str, float]:
    """One set of parameters: of each the (lower) median over the devices, so that it is one that was fitted."""
    return {n: sorted(fit.parameters[n] for fit in fits)[(len(fits) - 1) // 2] for n in fits[0].parameters}


def _kernel(fits: list[KernelFit], extra: float, grade: str, source: str) -> CalibratedKernel:
    """The devices' common parameters, and their spread with `extra` of its own."""
    own = np.array([[np.hypot(fit.residual[r], fit.doubt.get(r, 0.0)) for r in REGIMES] for fit in fits])
    spread = np.hypot(np.median(own, axis=0), extra)
    valid = {name: (min(f.valid[name][0] for f in fits), max(f.valid[name][1] for f in fits)) for name in fits[0].valid}
    return CalibratedKernel(combine(fits), spread, grade, source, valid)
