"""Fits of a GPU's power: tables of published watts, steady serving as runs of steps, recovery of known parameters."""

import datetime
import gzip
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.fit.power import (
    CLOCK_PARAMETERS,
    SERVED_PARAMETERS,
    Served,
    _fit,
    _fit_clocks,
    errors_from_relatives,
    fit_power,
    period,
    predict,
    served,
    table_with_prompts,
)
from calibration.fit.write import write_fit_file
from calibration.sources.power_tables import clock_tables, served_tables
from hardware_models import catalog
from hardware_models.fits import FitFile
from hardware_models.power import START, Activity, idle_w, voltage

DATA = Path(__file__).parents[3] / "shared" / "data"
DAY = datetime.date(2026, 1, 2)
H100 = catalog.gpu("h100-sxm")


def points(parameters: dict[str, float], count: int = 60, noise: float = 0.0) -> Served:
    random = np.random.default_rng(2)
    activity = Activity(*(random.uniform(low, high, count) for low, high in ((0.4, 0.9), (0.0, 0.3), (0.1, 0.8))))
    watts = predict(H100, parameters, activity) * np.exp(noise * random.standard_normal(count))
    return Served(activity, np.ones(count), np.ones(count), np.ones(count), watts)


def test_a_fit_finds_the_parameters_that_made_the_watts() -> None:
    true = START | {"busy_fraction": 0.3, "compute_fraction": 0.8, "memory_fraction": 0.3}
    fitted = _fit(H100, points(true, noise=0.01))
    for name in SERVED_PARAMETERS:
        assert fitted.parameters[name] == pytest.approx(true[name], rel=0.2)
    other = points(true, count=40)
    assert predict(H100, fitted.parameters, other.activity) == pytest.approx(other.watts, rel=0.02)


def test_voltages_come_from_watts_at_locked_clocks_and_are_assumed_without_any() -> None:
    true = {"voltage_slope": 1.2, "voltage_floor": 0.7}
    clock = np.linspace(0.5, 0.95, 12)
    watts = idle_w(H100) + 600.0 * clock * voltage(clock, true) ** 2
    table = pd.DataFrame({"clock_hz": clock * H100.boost_clock_hz, "watts": watts})
    fitted = _fit_clocks(H100, table)
    assert [fitted.parameters[name] for name in CLOCK_PARAMETERS] == pytest.approx(
        [1.2, 0.7], rel=0.06
    )  # the prior pulls a little
    assert fitted.covariance.shape == (2, 2)
    assumed = _fit_clocks(H100, table.iloc[:0])
    assert assumed.parameters == {name: START[name] for name in CLOCK_PARAMETERS}


@given(st.floats(1.0, 600.0), st.integers(1, 3000), st.integers(2, 4000))
def test_a_period_serves_each_request_of_the_batch_once(batch: float, prompt: int, output: int) -> None:
    runs, often = period(batch, float(prompt), float(output), at_once=False)
    if batch <= output:
        assert often.sum() == pytest.approx(output)  # steps: each writes one token of every sequence
    assert float(runs["chunks"] @ often) == pytest.approx(batch)
    assert float(runs["prefill_tokens"] @ often) == pytest.approx(batch * prompt)
    assert np.all(often >= 0.0)
    at_once, times = period(round(batch), float(prompt), float(output), at_once=True)
    assert float(at_once["decode_seqs"] @ times) == pytest.approx(round(batch) * (output - 1)) or round(batch) == 0


def test_tables_are_watts_of_one_gpu(tmp_path: Path) -> None:
    (tmp_path / "end_to_end").mkdir()
    header = (
        "model,task,gpu_model,num_gpus,avg_batch_size,output_throughput_tokens_per_sec,avg_output_len,"
        "avg_power_watts,median_itl_ms\n"
    )
    rows = "Qwen/Qwen3-8B,gpqa,H100,2,10,500,100,900,20\nQwen/Qwen3-8B,gpqa,B200,2,10,500,100,1900,20\n"
    with gzip.open(tmp_path / "end_to_end" / "ml_energy_llm.csv.gz", "wt") as file:
        file.write(header + rows)
    (tmp_path / "splitwise_sim").mkdir()
    (tmp_path / "splitwise_sim" / "perf_model.csv").write_text(
        "model,hardware,tensor_parallel,batch_size,prompt_size,token_size,average_power,prompt_time,token_time\n"
        "llama2-70b,a100-80gb,4,2,512,128,0.5,300,45\n"
        "llama2-70b,a100-80gb,4,2,512,128,0.7,300,45\n"
        "llama2-70b,a100-80gb,4,2,512,128,0.6,320,45\n"
        "llama2-70b,a100-80gb,4,32,512,128,0.0,300,45\n"
        "llama2-70b,a100-80gb,4,1,8192,128,0.2,300,45\n"
    )
    h100, a100 = served_tables(tmp_path, "h100-sxm"), served_tables(tmp_path, "a100-80gb-sxm")
    assert (len(h100), len(a100)) == (1, 1)
    assert h100["watts"].tolist() == [450.0]
    assert h100["seconds"].tolist() == pytest.approx([10 / 500 * 100])
    assert a100["watts"].tolist() == pytest.approx([0.6 * 400.0])
    assert a100["seconds"].tolist() == pytest.approx([0.3 + 127 * 0.045])
    assert served_tables(tmp_path, "l40s").empty
    assert fit_power(tmp_path, "l40s", DAY) is None
    assert clock_tables(tmp_path, "a100-80gb-sxm").empty


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="published measurements are not here")


@needs_data
@pytest.mark.parametrize(("device", "worst"), [("h100-sxm", 0.10), ("a100-80gb-sxm", 0.06)])
def test_published_watts_of_models_not_fitted_are_predicted(device: str, worst: float, tmp_path: Path) -> None:
    file = fit_power(DATA, device, DAY)
    assert file is not None
    (fit,) = file.fit
    assert fit.held_out.median < worst
    assert fit.held_out.coverage > 0.8
    assert 0.3 < sum(fit.parameters[name] for name in ("awake_fraction", "busy_fraction", "memory_fraction")) < 0.95
    written = write_fit_file(file, tmp_path).read_text()
    assert FitFile.model_validate(tomllib.loads(written)).fit[0].parameters.keys() == START.keys()


@needs_data
@pytest.mark.parametrize("device", ["h100-sxm", "a100-80gb-sxm"])
def test_a_device_is_predicted_from_the_other(device: str) -> None:
    errors = errors_from_relatives(DATA, device)
    assert len(errors) > 20
    assert float(np.median(np.abs(errors))) < 0.12
    assert len(errors_from_relatives(DATA, "l40s")) == 0


@needs_data
def test_prompt_lengths_are_chosen_by_time_alone() -> None:
    table = served_tables(DATA, "h100-sxm")
    table = table[table["model"] == "llama-3.1-8b"]
    chosen = table_with_prompts(table, "h100-sxm")["prompt_tokens"].unique()
    brighter = table_with_prompts(table.assign(watts=2.0 * table["watts"]), "h100-sxm")["prompt_tokens"].unique()
    assert chosen.tolist() == brighter.tolist()
    assert 100.0 <= chosen[0] <= 800.0
    assert np.all(served(table.assign(prompt_tokens=chosen[0]), "h100-sxm").activity.busy <= 1.0)
