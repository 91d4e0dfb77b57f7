"""From a CSV of published speeds to parameters of training attention: what is read, comes back, and is refused."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.fit.attention_training import (
    FEWEST_POINTS,
    fit_attention_training,
    price_passes,
    training_datasets,
    training_timings,
)
from calibration.fit.files import read_fit_files
from calibration.fit.run import FitRequest, fit_all
from calibration.fit.transfer import read_spreads
from calibration.sources.training_tables import COLUMNS, FILE, PASSES, training_devices, training_tables
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.fits import fit_file
from hardware_models.kernels.attention_training import PRIOR, START

DATE = datetime.date(2026, 1, 2)
TRUTH = START | {"softmax_clocks": 0.16, "operand_clocks": 0.25, "block_s": 1.5e-6, "backward_work": 1.4}
NOISE = 0.01


def figure(device: str, passes: tuple[str, ...] = tuple(PASSES), noise: float = NOISE) -> pd.DataFrame:
    """A figure's bars as a device of parameters TRUTH would have made them, of 16k tokens and hidden size 2048."""
    lengths, dims = [512, 1024, 2048, 4096, 8192, 16384], [64, 128]
    axes = {"passes": list(passes), "causal": [0, 1], "seq_len": lengths, "head_dim": dims}
    table = pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
    table = table.assign(device=device, implementation="flash2", tflop_per_s=1.0)
    table = table.assign(batch=16384 // table["seq_len"], heads=2048 // table["head_dim"])
    timings = training_timings(table.assign(seconds=1.0))
    seconds = price_passes(catalog.gpu(device), "flash2", TRUTH, timings).seconds
    seconds = seconds * np.exp(noise * np.random.default_rng(3).standard_normal(len(table)))
    half = np.where(table["causal"] == 1, 0.5, 1.0)
    scores = table["batch"] * table["heads"] * table["seq_len"].astype(float) ** 2
    flop = half * scores * table["head_dim"] * table["passes"].map(PASSES)
    return table.assign(tflop_per_s=flop / seconds / 1e12)[COLUMNS]


def write(folder: Path, *tables: pd.DataFrame) -> Path:
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_csv(path, index=False)
    return folder


def test_speeds_become_seconds(tmp_path: Path) -> None:
    """16 k tokens of one sequence at 100 TFLOP/s."""
    row = {"device": "a100-80gb-sxm", "implementation": "flash1", "passes": "forward", "causal": 0, "batch": 1,
           "seq_len": 16384, "heads": 16, "head_dim": 128, "tflop_per_s": 100.0}  # fmt: skip
    rows = [row, row | {"causal": 1}, row | {"passes": "forward_backward"}, row | {"implementation": "standard"}]
    seconds = training_tables(write(tmp_path, pd.DataFrame(rows)))["seconds"].to_numpy()
    assert seconds == pytest.approx(
        4 * 16384**2 * 2048 / 1e14 * np.array([1.0, 0.5, 3.5])
    )  # and no fused kernel's left out


def test_a_folder_without_the_file_has_no_timings(tmp_path: Path) -> None:
    assert training_datasets(tmp_path, "a100-80gb-sxm") == []
    assert training_datasets(None, "a100-80gb-sxm") == []
    assert training_devices(tmp_path) == ()
    assert fit_attention_training(tmp_path, "a100-80gb-sxm", DATE) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passes": "backward"}, "passes = 'backward' is none of forward, forward_backward"),
        (None, "lacks the column 'heads'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, change: dict[str, str] | None, words: str) -> None:
    table = figure("h100-sxm")
    write(tmp_path, table.assign(**change) if change else table.drop(columns="heads"))
    with pytest.raises(FleetcastError, match=words):
        training_tables(tmp_path)


def test_known_parameters_come_back_from_two_dozen_bars_and_more(tmp_path: Path) -> None:
    """Forward apart from both passes tells the backward's share; lengths the fit did not see are met to the noise."""
    file = fit_attention_training(write(tmp_path, figure("h100-sxm")), "h100-sxm", DATE)
    assert file is not None
    fit = file.fit[0]
    assert fit.key == "bf16/flash2"
    for name, tolerance in {"block_s": 0.15, "backward_work": 0.05}.items():
        assert fit.parameters[name] == pytest.approx(TRUTH[name], rel=tolerance), name
    assert fit.held_out.points == 16
    assert fit.held_out.median < 1.5 * NOISE
    assert fit.valid["backward"] == (0.0, 1.0)
    assert fit.source.grade == "quoted"


def test_whole_sequence_lengths_are_kept_out(tmp_path: Path) -> None:
    dataset = training_datasets(write(tmp_path, figure("h100-sxm")), "h100-sxm")[0]
    lengths, out = dataset.timings.sizes["queries"], dataset.kept_out()
    assert set(lengths[out]).isdisjoint(lengths[~out])
    assert len(set(lengths[out])) == 2


def test_what_was_not_timed_stays_at_its_prior(tmp_path: Path) -> None:
    file = fit_attention_training(write(tmp_path, figure("h100-sxm", passes=("forward",))), "h100-sxm", DATE)
    assert file is not None
    fit = file.fit[0]
    at = list(fit.parameters).index("backward_work")
    assert fit.parameters["backward_work"] == pytest.approx(START["backward_work"], rel=1e-3)
    assert np.sqrt(fit.covariance[at][at]) == pytest.approx(PRIOR["backward_work"][1], rel=0.01)
    assert fit.valid["backward"] == (0.0, 0.0)


def test_few_points_do_not_hide_the_noise_in_their_parameters(tmp_path: Path) -> None:
    """Eleven parameters follow sixteen bars closer than bars they do not see."""
    file = fit_attention_training(write(tmp_path, figure("h100-sxm", ("forward_backward",))), "h100-sxm", DATE)
    assert file is not None
    assert 0.7 * NOISE < file.fit[0].residual["compute"] < 2.0 * NOISE


def test_shipped_fits_hold_the_formula_s_parameters_near_what_was_known_before() -> None:
    for device in ("a100-80gb-sxm", "h100-sxm"):
        file = fit_file(device, "attention_training")
        assert file is not None
        for fit in file.fit:
            assert set(fit.parameters) == set(START)
            assert fit.held_out.median < 0.05
            for name, (mean, spread) in PRIOR.items():  # none is far out to mend what the formula lacks
                assert abs(np.log(fit.parameters[name] / mean)) < 3.5 * spread, (device, fit.key, name)


def test_too_few_bars_make_no_fit(tmp_path: Path) -> None:
    write(tmp_path, figure("h100-sxm").head(FEWEST_POINTS - 1))
    assert fit_attention_training(tmp_path, "h100-sxm", DATE) is None


def test_the_command_s_path_fits_every_device_of_the_file_and_judges_relatives(tmp_path: Path) -> None:
    data = write(tmp_path / "data", figure("h100-sxm"), figure("b200"))  # b200: in no other published table
    assert training_devices(data) == ("b200", "h100-sxm")
    fit_all(FitRequest(data=data, out=tmp_path / "out", date=DATE))
    assert set(read_fit_files(tmp_path / "out")) == {
        ("b200", "attention_training"), ("h100-sxm", "attention_training")
    }  # fmt: skip
    assert 0.0 < read_spreads(tmp_path / "out")["attention_training"]["any"] < 4 * NOISE
