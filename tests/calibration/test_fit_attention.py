"""Attention fits: known parameters come back, published tables are read as they are meant, files are reproducible."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.fit.attention import (
    attention_timings,
    decode_kernel,
    fit_attention,
    prefill_kernel,
    price_decode_timings,
    price_prefill_timings,
    visible,
)
from calibration.fit.write import write_fit_file
from calibration.sources.attention_tables import decode_tables, own_table, prefill_tables
from hardware_models import catalog
from hardware_models.fits import FOLDER, FitFile
from hardware_models.kernels import attention_decode, attention_prefill

DATE = datetime.date(2025, 1, 2)
SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_tables = pytest.mark.skipif(not SHARED.is_dir(), reason="published tables are not part of the project")
CALIBRATED = sorted(path for phase in ("prefill", "decode") for path in FOLDER.glob(f"*/attention_{phase}.toml"))


def measured(phase: str, spec_name: str, parameters: dict[str, float], noise: float = 0.02) -> pd.DataFrame:
    """A table as `fleetcast calibrate measure` writes it, of a device that obeys the formula but for noise."""
    rng = np.random.default_rng(3)
    shapes = [(32, 8, 128), (8, 1, 128), (64, 64, 64), (16, 2, 64)]
    sizes = 2 ** np.arange(4, 16)
    rows = []
    for heads, kv_heads, dim in shapes:
        for batch in (1, 2, 8, 32, 128):
            for tokens in sizes[sizes * batch <= 2**19]:
                pasts = (0, 4096) if phase == "prefill" else (0,)
                rows += [(batch, tokens, past, heads, kv_heads, dim) for past in pasts]
    first = "new_tokens" if phase == "prefill" else "context_tokens"
    table = pd.DataFrame(rows, columns=["batch", first, "past_tokens", "heads", "kv_heads", "head_dim"]).astype(float)
    table = table.assign(dtype="bf16", kv_dtype="bf16", window=0.0)
    names = ("batch", first, "past_tokens", "heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "window")
    points = attention_timings(own_table(table).assign(seconds=1.0), names)
    price = price_prefill_timings if phase == "prefill" else price_decode_timings
    exact = price(catalog.gpu(spec_name), "bf16", "bf16", parameters, points).seconds
    return table.assign(seconds=exact * np.exp(noise * rng.standard_normal(len(exact))), skew=0.0)


def decode_truth() -> dict[str, float]:
    truth = attention_decode.START | {"memory_fraction": 0.9, "block_s": 2.4e-6, "launch_s": 5e-6}
    return truth | attention_decode.PACKED


def prefill_truth() -> dict[str, float]:
    truth = attention_prefill.START | {"operand_clocks": 0.2, "tail_fraction": 0.7, "launch_s": 5e-6}
    return truth | attention_prefill.FLASH_ATTENTION_2


def test_known_parameters_come_back(tmp_path: Path):
    prefill, decode = (
        measured(phase, "a100-80gb-sxm", truth)
        for phase, truth in (("prefill", prefill_truth()), ("decode", decode_truth()))
    )
    files = fit_attention(tmp_path, "a100-80gb-sxm", DATE, prefill, decode)
    assert [file.operator for file in files] == ["attention_prefill", "attention_decode"]
    fits = [file.find("bf16/bf16") for file in files]
    for fit, truth, names in zip(
        fits,
        (prefill_truth(), decode_truth()),
        (("operand_clocks", "launch_s", "tail_fraction"), ("memory_fraction", "launch_s", "block_s")),
        strict=True,
    ):
        assert fit is not None
        assert fit.held_out.median < 0.025
        assert 0.8 <= fit.held_out.coverage <= 1.0
        for name in names:
            assert fit.parameters[name] == pytest.approx(truth[name], rel=0.15), name


def test_same_measurements_same_bytes(tmp_path: Path):
    decode = measured("decode", "l40s", decode_truth())
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        (file,) = fit_attention(tmp_path, "l40s", DATE, None, decode.sample(frac=1.0, random_state=1))
        written.append(write_fit_file(file, folder).read_bytes())
    assert written[0] == written[1]


def test_a_file_reads_back_to_six_digits(tmp_path: Path):
    (file,) = fit_attention(tmp_path, "l40s", DATE, None, measured("decode", "l40s", decode_truth()))
    path = write_fit_file(file, tmp_path)
    assert path == tmp_path / "l40s" / "attention_decode.toml"
    back = FitFile.model_validate(tomllib.loads(path.read_text()))
    assert back.date == DATE
    (fit,), (again,) = file.fit, back.fit
    assert again.source == fit.source
    assert again.points == fit.points
    assert again.parameters == pytest.approx(fit.parameters, rel=1e-5)
    assert np.allclose(again.covariance, fit.covariance, rtol=1e-5)
    assert again.held_out.model_dump() == pytest.approx(fit.held_out.model_dump(), rel=1e-5)


def test_nothing_measured_nothing_fitted(tmp_path: Path):
    assert fit_attention(tmp_path, "a10", DATE) == []


def test_windows_bound_what_is_seen():
    new, past = np.array([4.0, 4.0, 2.0]), np.array([0.0, 3.0, 10.0])
    pairs, keys = visible(new, past, 5.0)
    brute = [sum(min(p + i + 1, 5) for i in range(int(n))) for n, p in zip(new, past, strict=True)]
    assert pairs.tolist() == brute
    assert keys.tolist() == [4.0, 7.0, 6.0]
    assert visible(new, past, 0.0)[0].tolist() == [10.0, 22.0, 23.0]


def test_impossible_points_are_left_out(tmp_path: Path):
    """A KV cache far beyond the L2 that came back faster than the memory: a benchmark with too small a pool."""
    folder = tmp_path / "llmservingsim"
    folder.mkdir()
    columns = {"prefill_chunk": 0, "kv_prefill": 0, "n_decode": [16, 16], "kv_decode": [16_384, 8192]}
    honest_s = 16 * 8192 * 4096 / 0.9e12
    table = pd.DataFrame(columns | {"time_us": [100.0, honest_s * 1e6]})
    table.to_csv(folder / "RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1_attention.csv.gz", index=False)
    read = decode_tables(tmp_path, "rtx-4090")
    assert read["context_tokens"].tolist() == [8192]
    assert read[["heads", "kv_heads", "kv_width"]].iloc[0].tolist() == [32, 8, 2048]


@needs_tables
def test_tables_hold_what_their_makers_say():
    """Large decodes stream at the bandwidths and large prompts compute at the rates that a check of the source gave."""
    table = decode_tables(SHARED, "h100-sxm")
    plain = table[(table["kernel"] == "") & (table["kv_dtype"] == "bf16")]
    moved = plain["batch"] * plain["context_tokens"] * plain["kv_width"] * 2
    large = moved > 1e9
    assert (moved[large] / plain["seconds"][large]).median() == pytest.approx(2.9e12, rel=0.08)
    prompts = prefill_tables(SHARED, "h100-sxm")
    long = prompts[(prompts["new_tokens"] == 16_384) & (prompts["kernel"] == "") & (prompts["kv_dtype"] == "bf16")]
    flop = long["batch"] * long["new_tokens"] ** 2 * long["heads"] * (long["qk_dim"] + long["v_dim"])
    assert 0.5 < (flop / long["seconds"]).max() / 989e12 < 0.85


@needs_tables
@pytest.mark.parametrize("device", ["a100-80gb-sxm", "rtx-pro-6000"])
def test_published_tables_are_met_on_regions_held_out(device: str):
    for file in fit_attention(SHARED, device, DATE):
        fit = file.find("bf16/bf16")
        assert fit is not None
        assert fit.held_out.median <= 0.06
        assert fit.held_out.p90 <= 0.18
        assert 0.85 <= fit.held_out.coverage <= 0.95


@needs_tables
def test_a_relative_serves_a_device_nobody_measured():
    """RTX PRO 6000 parameters on the RTX 4090, which has half the matrix rate a multiprocessor and an older memory."""
    files = {file.operator: file for file in fit_attention(SHARED, "rtx-pro-6000", DATE)}
    spec = catalog.gpu("rtx-4090")
    for operator, read, price, kernel, first in (
        ("attention_prefill", prefill_tables, price_prefill_timings, prefill_kernel, ("new_tokens", "past_tokens")),
        ("attention_decode", decode_tables, price_decode_timings, decode_kernel, ("context_tokens",)),
    ):
        table = read(SHARED, "rtx-4090")
        table = table[table["kernel"] == ""]
        shape = ("heads", "kv_heads", "qk_dim", "v_dim", "kv_width", "window")
        fit = files[operator].find("bf16/bf16")
        assert fit is not None
        parameters = fit.parameters | dict(kernel(spec, "bf16/bf16").facts)
        predicted = price(spec, "bf16", "bf16", parameters, attention_timings(table, ("batch", *first, *shape))).seconds
        assert np.median(np.abs(predicted / table["seconds"] - 1.0)) < 0.15


@pytest.mark.parametrize("path", CALIBRATED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_calibrations_hold_the_formula_s_parameters(path: Path):
    file = FitFile.model_validate(tomllib.loads(path.read_text()))
    phase = attention_prefill if file.operator == "attention_prefill" else attention_decode
    facts = attention_prefill.FLASH_ATTENTION_2 if phase is attention_prefill else attention_decode.PACKED
    assert file.find("bf16/bf16") is not None
    for fit in file.fit:
        assert set(fit.parameters) == set(phase.START) | set(facts)
        assert fit.held_out.points > 0
