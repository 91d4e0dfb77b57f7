"""Calibrated kernels as files: what is refused, and what those that come with Fleetcast say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.fits import FOLDER, PARAMETERS, REGIMES, KernelFit, fit_file, read_fit_file
from hardware_models.price import Price

FILES = sorted(path for path in FOLDER.glob("*/*.toml") if path.stem in PARAMETERS)
FEW = 30  # points, of which a median says little
GEMM = FOLDER / "a40" / "gemm.toml"


def edited(folder: Path, old: str, new: str, device: str = "a40", operator: str = "gemm") -> Path:
    """A copy of a file that comes with Fleetcast, with one change."""
    text = GEMM.read_text()
    changed, count = re.subn(old, new, text, count=1, flags=re.MULTILINE)
    assert count == 1
    path = folder / device / f"{operator}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(changed)
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (r'^device = .*', 'device = "a10"', "is the calibration of gemm on a10, not of gemm on a40"),
        (r'^operator = .*', 'operator = "elementwise"', "is the calibration of elementwise on a40, not of gemm"),
        (r"^device = .*", 'device = "a40"\nspeed = 3', "speed: Extra inputs are not permitted"),
        (r"^points = .*", "points = 0", "fit.0.points: "),
        (r"^tile_s = .*", "tile_s = 0.0", "parameter tile_s = 0.0 must be positive"),
        (r"^tile_s = .*", "tile_s = -1e-6", "parameter tile_s = -1e-06 must be positive"),
        (r"^tile_s = .*", "tile_s = inf", "parameter tile_s = inf must be positive and finite"),
        (r"^tile_s = .*", "tile_t = 1e-6", "lacks the parameter 'tile_s'"),
        (r"^tile_s = .*\n", "", "covariance must be 16 x 16"),
        (r'^key = "', "key = ", "Invalid value"),
        (r"grade = \"measured\"", 'grade = "guessed"', "fit.0.source.grade: "),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_one_sentence_that_names_it(tmp_path, old, new, reason):
    path = edited(tmp_path, old, new)
    with pytest.raises(FleetcastError) as caught:
        read_fit_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert reason in message
    assert "\n" not in message


def test_a_file_says_what_it_is_the_calibration_of_by_its_place(tmp_path):
    assert read_fit_file(edited(tmp_path, "^x?", "")).find("bf16/bf16") is not None
    with pytest.raises(FleetcastError, match="a calibration holds for the device it was measured on"):
        read_fit_file(edited(tmp_path, "^x?", "", device="a10"))
    assert fit_file("a40", "no_such_operator") is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_reads_and_its_spread_covers_what_it_kept_out(path):
    file = read_fit_file(path)
    assert file.device in catalog.names("gpu")
    assert len({fit.key for fit in file.fit}) == len(file.fit)
    for fit in file.fit:
        assert set(fit.residual) == set(REGIMES)
        assert fit.held_out.points > 0
        assert fit.held_out.points < FEW or fit.held_out.coverage > 0.75, fit.key  # of 90 % intervals
        assert abs(fit.held_out.bias) < 0.15, fit.key
        # the median of |log error| is two thirds of a normal distribution's standard deviation
        spread = max(float(np.hypot(fit.residual[r], fit.doubt.get(r, 0.0))) for r in REGIMES)
        assert fit.held_out.points < FEW or spread > fit.held_out.median, fit.key
        assert all(low <= high for low, high in fit.valid.values())
        assert np.linalg.eigvalsh(np.asarray(fit.covariance)).min() > -1e-6


def test_a_price_is_as_sure_as_what_takes_most_of_its_time():
    fit = fit_file("h100-sxm", "gemm")
    assert fit is not None
    known = fit.fit[0].model_copy(update={"residual": dict(zip(REGIMES, (0.3, 0.2, 0.1), strict=True)), "doubt": {}})
    assert isinstance(known, KernelFit)
    prices = Price(np.array([9.0, 1.0, 1.0]), np.array([1.0, 1.0, 5.0]), np.array([1.0, 5.0, 1.0]))
    assert known.sigma(prices).tolist() == [0.3, 0.2, 0.1]
