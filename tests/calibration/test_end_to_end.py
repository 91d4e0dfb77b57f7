"""Servers played again: the closed loop against a lone request, host times recovered, published rows held to."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.end_to_end.closed_loop import ClosedLoop, play
from calibration.end_to_end.compare import serving_errors
from calibration.fit.framework import bare_table, fit_frameworks
from hardware_models.framework import framework
from sim.run import run
from workloads.request import RequestTable

DATA = Path(__file__).parents[3] / "shared" / "data"
published = pytest.mark.skipif(not (DATA / "end_to_end").is_dir(), reason="needs the published tables")


def point(**changes) -> ClosedLoop:
    keys = {"model": "llama-3.1-8b", "node": "dgx-h100", "tensor_parallel_size": 1, "concurrency": 1,
            "prompt_tokens": 512, "output_tokens": 64, "engine": "ideal"}  # fmt: skip
    return ClosedLoop(**{**keys, **changes})


def test_one_request_at_a_time_is_a_lone_request():
    alone = RequestTable.build(
        source="test", arrival_s=np.zeros(1), prompt_tokens=np.array([512]), output_tokens=np.array([64])
    )
    summary = run(point().scenario(), requests=alone).summary
    served = play(point())
    assert served.tpot_s == pytest.approx(summary["tpot_s"]["mean"], rel=1e-9)
    assert served.ttft_s == pytest.approx(summary["ttft_s"]["mean"], rel=1e-6)
    assert served.tpot_low_s < served.tpot_s < served.tpot_high_s


def test_host_time_adds_to_every_token():
    profile = framework("vllm-0.12")
    extra = play(point(engine="vllm-0.12", concurrency=8)).tpot_s - play(point(concurrency=8)).tpot_s
    assert extra == pytest.approx(profile.host_s_per_step + 8 * profile.host_s_per_sequence, rel=0.1)


def test_host_times_are_recovered_from_what_they_add():
    random = np.random.default_rng(3)
    load = np.tile([8.0, 16.0, 32.0, 64.0, 128.0], 24)
    bare = random.uniform(5e-3, 60e-3, len(load))
    noise = np.exp(random.normal(0.0, 0.01, len(load)))
    table = pd.DataFrame(
        {
            "engine": "made-up",
            "tensor_parallel_size": np.repeat([2, 4, 8], len(load) // 3),
            "concurrency": load,
            "bare_s": bare,
            "tpot_s": (bare + 1.5e-3 + 4e-5 * load) * noise,
        }
    )
    (fit,) = fit_frameworks(table)
    assert fit.host_s_per_step == pytest.approx(1.5e-3, rel=0.15)
    assert fit.host_s_per_sequence == pytest.approx(4e-5, rel=0.15)
    assert fit.median_error < 0.02
    assert (fit.points, fit.judged) == (80, 40)


@published
def test_shipped_profiles_are_what_the_published_points_say():
    for fit in fit_frameworks(bare_table(DATA)):
        profile = framework(fit.engine)
        assert profile.host_s_per_step == pytest.approx(fit.host_s_per_step, rel=0.03)
        assert profile.host_s_per_sequence == pytest.approx(fit.host_s_per_sequence, rel=0.03)


@published
def test_published_servers_are_foretold_and_held_by_the_intervals():
    errors = serving_errors(DATA)
    tokens = errors[errors["metric"] == "TPOT"]
    weighted = (tokens["median"] * tokens["points"]).sum() / tokens["points"].sum()
    assert weighted < 0.08  # the target for the time per output token
    assert (tokens["p90"] < 0.25).all()
    held = (errors["coverage"] * errors["points"]).sum() / errors["points"].sum()
    assert held > 0.8
