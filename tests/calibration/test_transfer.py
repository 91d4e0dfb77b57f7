"""Leaving devices out: who prices whom, what the error is, and how spreads are averaged and kept."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fit_measurements import NOISE, TRUTH, elementwise_table

from calibration.fit.elementwise import elementwise_datasets
from calibration.fit.kernel import Dataset, fit_kernel
from calibration.fit.transfer import Spread, read_spreads, spread_table, transfers, write_spreads
from hardware_models.fits import FitFile

DATE = datetime.date(2026, 1, 2)


def dataset(device: str, slower: float = 1.0) -> Dataset:
    """Passes that obey the formula but for noise, `slower` times as long."""
    table = elementwise_table(device)
    noise = np.exp(NOISE * np.random.default_rng(3).standard_normal(len(table)))
    (found,) = elementwise_datasets(None, device, table.assign(seconds=table["seconds"] * noise * slower))
    return found


@pytest.fixture(scope="module")
def measured() -> dict[str, FitFile]:
    """The A100 is alone in its family here; the A40, A6000 and L40S are two of one and one of another."""
    files = {}
    for device, slower in (("a100-80gb-sxm", 1.0), ("a40", 1.0), ("a6000", 1.5), ("l40s", 1.0)):
        fit = fit_kernel(dataset(device, slower))
        files[device] = FitFile(device=device, operator="elementwise", date=DATE, fit=[fit])
    return files


def test_family_first_and_strangers_apart(measured: dict[str, FitFile]) -> None:
    found = {one.distance: one.relatives for one in transfers(dataset("a40"), measured)}
    assert found == {"family": ("a6000",), "any": ("a100-80gb-sxm", "l40s")}
    alone = {one.distance: one.relatives for one in transfers(dataset("l40s"), measured)}
    assert alone == {"any": ("a100-80gb-sxm", "a40", "a6000")}


def test_nobody_else_nothing_to_say(measured: dict[str, FitFile]) -> None:
    assert list(transfers(dataset("a40"), {"a40": measured["a40"]})) == []
    other_format = replace(dataset("a40"), key="fp32")
    assert list(transfers(other_format, measured)) == []


def test_a_slow_relative_is_as_far_off_as_it_is_slow(measured: dict[str, FitFile]) -> None:
    errors = {one.distance: one.log_errors for one in transfers(dataset("a40"), measured)}
    assert np.median(errors["family"]) == pytest.approx(-np.log(1.5), abs=0.03)
    assert np.median(errors["any"]) == pytest.approx(0.0, abs=0.02)
    spreads = {one.distance: one.spread.spread for one in transfers(dataset("a40"), measured)}
    assert spreads["family"] == pytest.approx(np.log(1.5) / 1.645, rel=0.15)
    assert spreads["any"] < 2.0 * NOISE


def test_own_fits_have_no_part_in_it(measured: dict[str, FitFile]) -> None:
    wrong = measured["a40"].fit[0].model_copy(update={"parameters": dict.fromkeys(TRUTH["elementwise"], 1.0)})
    spoilt = measured | {"a40": measured["a40"].model_copy(update={"fit": [wrong]})}
    before, after = (
        {one.distance: one.log_errors.tolist() for one in transfers(dataset("a40"), files)}
        for files in (measured, spoilt)
    )
    assert before == after


def test_every_device_weighs_the_same() -> None:
    found = [Spread("gemm", "a40", "any", 0.1)] * 9 + [Spread("gemm", "l40s", "any", 0.7)]
    found.append(Spread("gemm", "a40", "family", 0.2))
    table = spread_table(found)
    assert table["gemm"]["any"] == pytest.approx(np.sqrt((0.1**2 + 0.7**2) / 2))
    assert table["gemm"]["family"] == pytest.approx(0.2)
    assert list(table["gemm"]) == ["family", "any"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = {"elementwise": {"any": 0.5}, "gemm": {"family": 0.1234, "any": 0.2}}
    write_spreads(table, tmp_path)
    assert read_spreads(tmp_path) == table
    assert read_spreads(tmp_path / "nowhere") == {}
