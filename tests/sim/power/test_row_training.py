"""A training in a row that serves: what it draws is what its own steps draw, and slowing it loses no work."""

from __future__ import annotations

import tomllib
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.identity import scenario_id
from sim.plan.power import plan_oversubscription
from sim.power.account import power_frame
from sim.power.row import RowLoop
from sim.power.series import PowerSeries
from sim.power.training_job import TrainingJob
from sim.power.training_steps import PricedSteps
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import relocated, resolve_paths
from sim.training_scenario import TrainingScenario

FILE = """
name = "beside"
[model]
config = "llama-2-7b"
[cluster]
node = "dgx-h100"
nodes = 2
[training]
global_batch_size = 12
tensor_parallel_size = 4
pipeline_parallel_size = 3
data_parallel_size = 1
"""
BUDGET = {"name": "shared_budget", "hold_s": 5.0}
FAR_W = 100_000.0  # a limit that nothing nears


@cache
def steps() -> PricedSteps:
    """Of a training on twelve of two servers' sixteen GPUs, in three stages."""
    return PricedSteps(TrainingScenario.model_validate(tomllib.loads(FILE)))


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("row") / "beside.toml"
    path.write_text(FILE)
    return path


def row_with(
    beside: Path | None, *, exact: bool = False, training: dict[str, Any] | None = None, **power: Any
) -> Result:
    """Two servers that serve, half of the requests of low priority, and two that train."""
    clients = [
        {
            "name": name,
            "priority": priority,
            "arrivals": {"name": "poisson", "request_rate": 3.0},
            "prompt_tokens": {"name": "uniform", "min_tokens": 100, "max_tokens": 4000},
            "output_tokens": {"name": "uniform", "min_tokens": 1, "max_tokens": 300},
        }
        for name, priority in (("high", 0), ("low", 1))
    ]
    asked = {"policy": BUDGET, "actuation_delay_s": 3.3, "telemetry_period_s": 1.0} | power
    if beside is not None:
        asked["training"] = {"scenario": str(beside), "clocks_mhz": [800.0, 1200.0, 1500.0]} | (training or {})
    tables = {
        "model": {"config": "llama-3-70b"},
        "cluster": {"node": "dgx-h100", "nodes": 2},
        "serving": {"replicas": 4, "tensor_parallel_size": 4, "low_priority_replicas": 2},
        "workload": {"generator": {"name": "clients", "clients": clients}, "duration_s": 12.0},
        "power": asked,
    }
    return run(Scenario.model_validate(tables), exact=exact)


def loop(result: Result) -> RowLoop:
    assert result.run.power is not None
    assert result.run.power.row is not None
    return result.run.power.row


@cache
def pressed(beside: Path) -> Result:
    """Where training alone must pay."""
    return row_with(beside, row_limit_w=26_500.0)


@cache
def free(beside: Path) -> Result:
    return row_with(beside, row_limit_w=FAR_W)


def one_step_an_event(changes: list[tuple[float, float]], end_s: float) -> tuple[float, float]:
    """Steps and joules at the wall of a process that waits for every step, and is disturbed by every change."""
    env, known = simpy.Environment(), steps()
    at_clock, sums = [known.own], np.zeros(2)

    def train() -> Generator[simpy.Event, Any, None]:
        nonlocal sums
        share = 0.0  # of the step under way
        while True:
            step, since_s = at_clock[-1], env.now
            try:
                yield env.timeout((1.0 - share) * step.step_s)
                until = 1.0
            except simpy.Interrupt:
                until = share + (env.now - since_s) / step.step_s
            drawn = step.cluster.joules(np.array([share, until]) * step.step_s)
            sums += until - share, drawn[1] - drawn[0]
            share = until % 1.0

    process = env.process(train())

    def change() -> Generator[simpy.Event, Any, None]:
        for at_s, clock in [*changes, (end_s, 1.0)]:
            yield env.timeout(at_s - env.now)
            at_clock.append(known.at(clock))
            process.interrupt()

    env.process(change())
    env.run(until=end_s * (1.0 + 1e-12) + 1e-9)
    return float(sums[0]), float(sums[1])


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.floats(0.01, 3.0), st.sampled_from([0.3, 0.5, 0.75, 1.0])), max_size=5), st.floats(0.01, 4.0)
)
def test_a_clock_change_within_a_step_loses_no_work_and_no_joule(
    gaps: list[tuple[float, float]], after_s: float
) -> None:
    job, now_s, changes = TrainingJob(steps()), 0.0, []
    for gap_s, clock in gaps:
        now_s += gap_s
        job.set_clock(clock, now_s)
        changes.append((now_s, clock))
    end_s = now_s + after_s
    done, joules = one_step_an_event(changes, end_s)
    counts = [one.count for one in job.steps.own.servers]
    at = np.array([0.0, end_s])
    assert job.done(at)[1] == pytest.approx(done, rel=1e-9)
    assert float(job.joules(at)[1, :, 0] @ counts) == pytest.approx(joules, rel=1e-9)
    assert sum((until - since) / step.step_s for since, until, step in job.spans(0.0, end_s)) == pytest.approx(done)


def test_the_rows_energy_is_the_integral_of_all_that_is_in_it_and_counted_once(beside: Path) -> None:
    result, log = pressed(beside), loop(pressed(beside)).log
    training, end_s = loop(result).training, loop(result).log.t_s[-1]
    assert training is not None
    spans = training.job.spans(0.0, end_s)
    assert len(spans) > 1  # clocks did change
    begun, pieces = 0.0, []  # of the step under way, and watts span by span
    for since, until, step in spans:
        repeats = np.arange(int((until - since) / step.step_s) + 2)
        t_s = (repeats[:, None] * step.step_s + step.cluster.t_s[:-1]).ravel() + since - begun * step.step_s
        watts = np.tile(step.cluster.watts, len(repeats))
        inside = PowerSeries.of(np.clip([*t_s, until], since, until), watts)
        pieces.append(inside.energy_j)
        begun = (begun + (until - since) / step.step_s) % 1.0
    frame = power_frame(result.run.power)
    by_scope = frame.groupby("scope")["watts"].sum()
    assert by_scope["training"] == pytest.approx(sum(pieces), rel=1e-9)  # a reading a second
    assert by_scope["row"] == pytest.approx(by_scope["training"] + by_scope["high"] + by_scope["low"], rel=1e-12)
    assert by_scope["row"] == pytest.approx(by_scope["server"], rel=1e-12)
    assert result.summary["power"]["row_energy_j"] == pytest.approx(by_scope["row"], rel=1e-12)
    energy = result.summary["energy"]
    assert energy["wall_kwh"] == pytest.approx(free(beside).summary["energy"]["wall_kwh"])  # of those that serve alone
    trained = energy["training"]
    assert sum(trained["parts_j"].values()) == pytest.approx(trained["site_kwh"] * 3.6e6, rel=1e-12)
    assert trained["wall_kwh"] < free(beside).summary["energy"]["training"]["wall_kwh"]
    assert len(log.server_w[0]) == 4


def test_servers_of_a_training_draw_together_what_its_cluster_does() -> None:
    tables = tomllib.loads(FILE)
    tables["cluster"]["nodes"] = 3  # one is full, one half, one without work
    step = PricedSteps(TrainingScenario.model_validate(tables)).own
    assert [one.count for one in step.servers] == [1, 1, 1]
    assert sum(one.wall.energy_j for one in step.servers) == pytest.approx(step.cluster.energy_j, rel=1e-12)
    assert sum(step.parts.values()) == pytest.approx(1.0, rel=1e-12)
    assert 0.0 < step.parts["unused"] < 0.25


def test_without_pressure_nobody_is_touched_and_under_it_training_pays_first(beside: Path) -> None:
    unlimited, limited = free(beside), pressed(beside)
    alone = row_with(None, row_limit_w=FAR_W, policy={"name": "brake_only"})
    for result in (unlimited, limited):
        np.testing.assert_array_equal(result.request_columns["e2e_s"], alone.request_columns["e2e_s"])
    power, spared = limited.summary["power"], unlimited.summary["power"]
    assert spared["training"]["steps"] == pytest.approx(spared["training"]["steps_without_limit"], rel=1e-12)
    assert (spared["training"]["lost_fraction"], spared["training"]["slowed_s"], spared["orders"]) == (0.0, 0.0, 0)
    assert power["training"]["slowed_s"] > 0.0
    assert 0.05 < power["training"]["lost_fraction"] < 0.5
    assert power["row_w"]["mean"] < spared["row_w"]["mean"]
    assert power["low_priority_locked_s"] == power["high_priority_locked_s"] == 0.0


def test_a_tighter_limit_reaches_low_priority_the_brake_everybody_and_runs_stay_exact(beside: Path) -> None:
    low_first = BUDGET | {"first": "low"}
    fast, slow = (row_with(beside, row_limit_w=22_000.0, policy=low_first, exact=exact) for exact in (False, True))
    np.testing.assert_allclose(fast.request_columns["e2e_s"], slow.request_columns["e2e_s"], rtol=1e-9)
    assert loop(fast).log.orders == loop(slow).log.orders
    np.testing.assert_allclose(np.array(loop(fast).log.server_w), np.array(loop(slow).log.server_w), rtol=1e-9)
    assert loop(fast).log.orders[0][1].training_mhz is None
    power = fast.summary["power"]
    assert power["low_priority_locked_s"] > 0.0
    assert power["brakes"] > 0
    assert power["training"]["lowest_clock_mhz"] == pytest.approx(288.0)


def test_a_path_of_a_training_is_seen_from_the_scenarios_folder_and_counts_in_its_identity(tmp_path: Path) -> None:
    (tmp_path / "beside.toml").write_text(FILE)
    tables = free_tables() | {"power": {"row_limit_w": FAR_W, "training": {"scenario": "beside.toml"}}}
    resolve_paths(tables, tmp_path)
    scenario = Scenario.model_validate(tables)
    assert scenario.power is not None
    assert scenario.power.training is not None
    assert Path(scenario.power.training.scenario) == tmp_path / "beside.toml"
    before = scenario_id(scenario)
    (tmp_path / "beside.toml").write_text(FILE.replace("= 12", "= 24"))
    assert scenario_id(scenario) != before
    with pytest.raises(FleetcastError, match="plan --oversubscribe: counts servers of a row that only serves"):
        plan_oversubscription(relocated(scenario, tmp_path))


def free_tables() -> dict[str, Any]:
    return {
        "model": {"config": "llama-3-70b"},
        "cluster": {"node": "dgx-h100", "nodes": 2},
        "workload": {"trace": "azure-conv-2023"},
    }


NONSENSE: list[tuple[dict[str, Any] | None, dict[str, Any], str]] = [
    ({"nodes": 0}, {}, "greater than or equal to 1"),
    ({"nodes": 1}, {}, "power.training, with nodes = 1: .* need 12 GPUs"),
    ({"scenario": "nowhere.toml"}, {}, "no such file"),
    ({"scenario": "gpt-175b-64xa10"}, {}, "did you mean 'gpt-175b-64xa100'"),
    ({"scenario": "scenarios/chat-70b-chunked.toml"}, {}, "is no training"),
    ({"clocks_mhz": [100.0]}, {}, "runs at 297 MHz at least"),
    ({"clocks_mhz": [2000.0]}, {}, "runs at 1980 MHz at most"),
    ({"clocks_mhz": [1950.0]}, {}, "none is below the 1872 MHz"),
    (None, {}, "slows a training first, and the row has none"),
    ({}, {"row_limit_w": 6_000.0}, "and those of a training"),
    ({}, {"row_limit_w": None, "policy": {"name": "brake_only"}}, "shares a row's limit, and there is none"),
    ({}, {"policy": {"name": "shared_budget", "target_fraction": 0.9}}, "below the threshold"),
]


@pytest.mark.parametrize(("training", "power", "message"), NONSENSE)
def test_nonsense_of_a_shared_row_is_refused_in_a_sentence(
    beside: Path, training: dict[str, Any] | None, power: dict[str, Any], message: str
) -> None:
    with pytest.raises((FleetcastError, ValueError), match=message):
        row_with(beside if training is not None else None, training=training, **({"row_limit_w": FAR_W} | power))
