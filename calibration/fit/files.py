"""Reads a whole calibration: a folder as `hardware_models/calibrated`."""

from __future__ import annotations

from pathlib import Path

from calibration.fit.datasets import OPERATORS
from hardware_models.errors import FleetcastError
from hardware_models.fits import FitFile, read_fit_file
from hardware_models.link_parameters import FOLDER as LINKS


def read_fit_files(folder: Path) -> dict[tuple[str, str], FitFile]:
    """(device, kind of kernel) -> file; links are kinds of "links". Empty for a folder without fits.

    Raises FleetcastError for a file that does not hold what its name says.
    """
    return {
        (path.parent.name, path.stem): read_fit_file(path)
        for path in sorted(folder.glob("*/*.toml"))
        if path.parent.name == LINKS or path.stem in OPERATORS
    }


def require_fit_files(folder: Path) -> dict[tuple[str, str], FitFile]:
    """As `read_fit_files`; raises FleetcastError also where there are none."""
    files = read_fit_files(folder)
    if not files:
        raise FleetcastError(f"{folder}: holds no calibration; `fleetcast calibrate fit --out` writes one")
    return files
