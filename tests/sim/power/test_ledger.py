"""The energy account: each joule once, nothing else of a run changed by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.power import power_model
from hardware_models.server_power import server_power
from sim.energy_section import EnergySection
from sim.identity import scenario_id
from sim.power.ledger import energy_account, prompt_share
from sim.power.windows import Windows
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import parse_any
from sim.sweep.names import check_names


def scenario(energy: dict | None = None, serving: dict | None = None, rate: float = 2.0, **sections) -> Scenario:
    laws = {"arrivals": {"name": "poisson", "request_rate": rate}, "prompt_tokens": 900, "output_tokens": 40}
    tables = {
        "seed": 1,
        "model": {"config": "llama-3-8b"},
        "cluster": {"node": "dgx-h100", "nodes": 2},
        "serving": serving or {},
        "workload": {"num_requests": 40, "generator": {"name": "synthetic", **laws}},
        **sections,
    }
    return Scenario.model_validate(tables | ({} if energy is None else {"energy": energy}))


def served(**keys) -> Result:
    return run(scenario(**keys))


PLANS = [
    {},
    {"replicas": 3, "tensor_parallel_size": 4},
    {"replicas": 2, "pipeline_parallel_size": 4, "max_num_seqs": 8},
    {"pipeline_parallel_size": 2, "tensor_parallel_size": 8, "max_num_seqs": 8},
]


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(PLANS),
    st.sampled_from([0.2, 2.0, 50.0]),
    st.sampled_from(["france", "solar-shaped"]),
    st.floats(1.0, 3.0),
    st.sampled_from([None, {"decode_clock_mhz": 1200.0}]),
)
def test_every_joule_of_the_site_is_in_one_part(plan, rate, grid, pue, power) -> None:
    sections = {} if power is None else {"power": power}
    result = served(energy={"grid": grid, "pue": pue}, serving=plan, rate=rate, **sections)
    summary, deployment = result.summary, result.run.deployment
    found = summary["energy"]
    parts = found["parts_j"]
    assert all(joules >= 0.0 for joules in parts.values())
    assert sum(parts.values()) == pytest.approx(found["site_kwh"] * 3.6e6, rel=1e-9)
    gpus = sum(parts[name] for name in ("prompt", "decode", "waiting", "unused"))
    assert gpus == pytest.approx(summary["energy_j"], rel=1e-9)
    assert found["wall_kwh"] * pue == pytest.approx(found["site_kwh"], rel=1e-9)
    server, seconds = server_power(deployment.node), 2 * summary["duration_s"]
    assert server.watts(gpus / seconds) * seconds < found["wall_kwh"] * 3.6e6 < server.max_w * seconds
    assert found["kgco2e"] * 1e3 == pytest.approx(found["site_kwh"] * found["gco2e_per_kwh"], rel=1e-9)
    assert found["wh_per_request"] * 40 == pytest.approx(found["site_kwh"] * 1e3, rel=1e-9)


def test_the_account_changes_no_figure_of_the_run_and_is_there_without_its_section() -> None:
    plain, priced = (served(energy=energy).summary for energy in (None, {"grid": "france", "embodied": "bloom-2022"}))
    assert plain.pop("energy")["parts_j"] == (found := priced.pop("energy"))["parts_j"]
    assert plain == priced
    assert found["kgco2e"] == found["kgco2e_of_grid"] + found["kgco2e_embodied"]
    assert found["kgco2e_embodied"] > 0.0


def test_steps_of_prompts_alone_and_of_decodes_alone_are_shared_with_nobody() -> None:
    result = served(serving={"scheduler": {"name": "prefill_first"}}, rate=20.0)
    runs = result.run.runs.columns()
    share = prompt_share(runs, result.attributions[0])
    alone = (runs["prefill_tokens"] > 0) & (runs["decode_seqs"] == 0)
    assert share[alone] == pytest.approx(1.0)
    assert np.all(share[runs["prefill_tokens"] == 0] == 0.0)
    mixed = run(scenario(rate=20.0))
    runs = mixed.run.runs.columns()
    both = (runs["prefill_tokens"] > 0) & (runs["decode_seqs"] > 0)
    assert both.any()
    share = prompt_share(runs, mixed.attributions[0])[both]
    assert np.all((share > 0.5) & (share < 1.0))


def test_waiting_is_what_a_replica_draws_awake_and_grows_with_the_time_between_requests() -> None:
    busy, slack = (served(rate=rate) for rate in (20.0, 0.2))
    assert slack.summary["energy"]["waiting_fraction"] > 0.5 > busy.summary["energy"]["waiting_fraction"]
    seconds = slack.summary["duration_s"] - slack.attributions[0].busy_s.sum()
    awake_w = power_model(slack.run.deployment.gpu).awake_w
    assert slack.summary["energy"]["parts_j"]["waiting"] == pytest.approx(awake_w * seconds, rel=1e-9)


def test_a_run_pays_the_hours_in_which_it_runs() -> None:
    noon, evening = (
        served(energy={"grid": "solar-shaped", "price": "time-of-use", "region": "solar-noon", "start_hour": hour})
        for hour in (12.0, 19.0)
    )
    one, other = (result.summary["energy"] for result in (noon, evening))
    assert one["site_kwh"] == other["site_kwh"]
    assert other["kgco2e"] / one["kgco2e"] == pytest.approx(350 / 90)
    assert other["usd"] / one["usd"] == pytest.approx(0.24 / 0.05)


def test_figures_of_the_scenario_stand_in_for_the_catalogs() -> None:
    found = served(energy={"gco2e_per_kwh": 100.0, "usd_per_kwh": 0.5, "pue": 2.0, "grid": "france"}).summary["energy"]
    assert found["usd"] == pytest.approx(0.5 * found["site_kwh"])
    assert found["kgco2e"] == pytest.approx(0.1 * found["site_kwh"])
    assert found["grid"] == "100 g/kWh"
    assert set(found["grades"]) == {"servers"}


def test_nothing_finished_has_no_account() -> None:
    found = energy_account(scenario(), None, {}, [], 0.0, {"duration_s": 0.0})  # type: ignore[arg-type]
    assert found == {"energy": None}


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"grid": "frances"}, "did you mean 'france'"),
        ({"price": "time-of-use"}, "region in time-of-use: unknown name 'us-average'"),
        ({"site": "hyperscales"}, "energy.site in large-users: unknown name .* did you mean 'hyperscale'"),
        ({"embodied": "bloom"}, "did you mean 'bloom-2022'"),
    ],
)
def test_names_that_no_catalog_has_are_refused_before_a_sweep(keys: dict, complaint: str) -> None:
    with pytest.raises(UnknownNameError, match=complaint):
        check_names(scenario(energy=keys))


@pytest.mark.parametrize(("key", "value"), [("pue", 0.9), ("start_hour", 24.0), ("gco2e_per_kwh", -1.0)])
def test_nonsense_is_refused_in_a_sentence(key: str, value: float) -> None:
    tables = scenario().model_dump(exclude_none=True) | {"energy": {key: value}}
    with pytest.raises(FleetcastError, match=f"energy.{key} = {value}: "):
        parse_any(tables, "s.toml", Path())


def test_ones_own_grid_file_is_found_beside_the_scenario_and_is_part_of_its_identity(tmp_path: Path) -> None:
    text = '{}name = "mine"\ngco2e_per_kwh = {}\n[source]\ndefault = {{ grade = "quoted", text = "my supplier" }}\n'
    (tmp_path / "mine.toml").write_text(text.format("", 11.0))
    tables = scenario().model_dump(exclude_none=True) | {"energy": {"grid": "mine.toml"}}
    one = parse_any(tables, "s.toml", tmp_path)
    assert isinstance(one.energy, EnergySection)
    assert one.energy.site_of().gco2e_per_kwh.by_hour == (11.0,)
    before = scenario_id(one)
    (tmp_path / "mine.toml").write_text(text.format("", 12.0))
    assert scenario_id(one) != before


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.just(0.0) | st.floats(1e-3, 60), st.floats(0, 9), st.integers(0, 2)),
        min_size=1,
        max_size=20,
    ),
    st.floats(0.5, 200.0),
)
def test_windows_keep_every_joule_and_their_mean_watts(spans, width_s: float) -> None:
    start, length, joules, group = (np.array(column, float) for column in zip(*spans, strict=True))
    windows = Windows.of(0.0, 160.0, width_s)
    found = windows.spread(group.astype(int), 3, start, start + length, joules)
    for number in range(3):
        assert found[number].sum() == pytest.approx(joules[group == number].sum(), abs=1e-9)
    edge = windows.edges_s[windows.count // 2]
    share = np.where(length > 0, np.clip((edge - start) / np.where(length > 0, length, 1), 0, 1), start < edge)
    assert found[:, : windows.count // 2].sum() == pytest.approx((share * joules).sum(), abs=1e-6)
