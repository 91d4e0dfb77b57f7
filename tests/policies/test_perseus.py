"""Perseus's frontier: against a linear program, against max-plus, and its promises for any pipeline."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import BACKWARD, FORWARD, SCHEDULES, pipeline_graph
from policies.power.perseus import Frontier, frontier
from policies.power.perseus_baselines import envpipe, highest_clock, zeus_global, zeus_per_stage
from policies.power.perseus_pipeline import Pipeline
from policies.power.perseus_profile import PassProfile
from sim.graph import max_plus

BLOCKING_W = 80.0
CLOCKS = (1400.0, 1200.0, 1000.0, 800.0)


def profile(seconds: float, watts: float = 400.0, bend: float = 2.0) -> PassProfile:
    """Time as the inverse of the clock; power over blocking as a power of it."""
    shares = [clock / CLOCKS[0] for clock in CLOCKS]
    times = [seconds / share for share in shares]
    energies = [
        time * (BLOCKING_W + (watts - BLOCKING_W) * share**bend) for time, share in zip(times, shares, strict=True)
    ]
    return PassProfile.of(CLOCKS, times, energies)


def pipeline(forwards: list[float], micro_batches: int, *, schedule: str = "1f1b", send_s: float = 0.0) -> Pipeline:
    passes = {}
    for stage, seconds in enumerate(forwards):
        passes[FORWARD, stage] = profile(seconds)
        passes[BACKWARD, stage] = profile(2.0 * seconds, 450.0)
    programs = SCHEDULES[schedule]().programs(len(forwards), micro_batches)
    return Pipeline(programs, passes, BLOCKING_W, send_s=send_s)


pipelines = st.builds(
    pipeline,
    st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.3]), min_size=1, max_size=4),
    st.integers(1, 6),
    schedule=st.sampled_from(["1f1b", "gpipe"]),
    send_s=st.sampled_from([0.0, 0.05]),
)


def least_net_j(one: Pipeline, within_s: float) -> float:
    """The same question as a linear program: start of each pass, its seconds, and energy above all its lines."""
    count = len(one.slots)
    rows: list[np.ndarray] = []
    limits: list[float] = []
    bounds = [(0.0, None)] * count + [(0.0, 0.0)] * count + [(None, None)] * count
    for task, slot in enumerate(one.slots):
        curve = one.profile(slot).curve(one.blocking_w)
        bounds[count + task] = (curve.seconds[-1], curve.seconds[0])
        for k in range(len(curve.seconds) - 1):
            slope = (curve.net_j[k + 1] - curve.net_j[k]) / (curve.seconds[k + 1] - curve.seconds[k])
            row = np.zeros(3 * count)
            row[count + task], row[2 * count + task] = slope, -1.0
            rows.append(row)
            limits.append(slope * curve.seconds[k] - curve.net_j[k])
        end = np.zeros(3 * count)
        end[task] = end[count + task] = 1.0
        rows.append(end)
        limits.append(within_s)
        for other, lag in one.before[task]:
            wait = np.zeros(3 * count)
            wait[other] = wait[count + other] = 1.0
            wait[task] = -1.0
            rows.append(wait)
            limits.append(-lag)
    costs = np.concatenate([np.zeros(2 * count), np.ones(count)])
    return float(linprog(costs, A_ub=np.array(rows), b_ub=np.array(limits), bounds=bounds).fun)


@given(pipelines, st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_no_times_of_passes_draw_less_energy_than_those_planned(one: Pipeline, where: float) -> None:
    found = frontier(one)
    within_s = found.shortest_s + where * (found.iteration_s[-1] - found.shortest_s)
    waiting_j = one.devices * one.blocking_w * within_s
    assert found.planned_j(within_s) == pytest.approx(least_net_j(one, within_s * (1 + 1e-9)) + waiting_j, rel=1e-5)


@given(pipelines)
@settings(max_examples=25, deadline=None)
def test_a_frontier_falls_ever_less_steeply_and_its_times_are_those_of_max_plus(one: Pipeline) -> None:
    found = frontier(one)
    times, gpus = np.array(found.iteration_s), one.devices
    net_j = np.array(found.energy_j) - gpus * one.blocking_w * times
    assert np.all(np.diff(times) > 0)
    assert np.all(np.diff(net_j) < 1e-6 * net_j[0])
    if len(times) > 2:
        slopes = np.diff(net_j) / np.diff(times)
        steep = np.diff(times) > 1e-6  # shorter ones are of whole nanoseconds
        assert np.all(np.diff(slopes[steep]) > -1e-3 * abs(slopes[0]))
    for iteration_s in {*times[:: max(1, len(times) // 3)], 0.5 * (times[0] + times[-1])}:
        planned = found.pass_seconds(iteration_s).tolist()
        assert one.iteration_s(planned) == pytest.approx(iteration_s, rel=1e-7)


@given(pipelines)
@settings(max_examples=25, deadline=None)
def test_clocks_keep_the_plan_and_never_draw_more_than_the_highest(one: Pipeline) -> None:
    found, highest = frontier(one), highest_clock(one)
    assert found.shortest_s == pytest.approx(highest.iteration_s, rel=1e-7)
    kept = found.run()
    assert kept.iteration_s <= highest.iteration_s * (1 + 1e-7)
    assert found.energy_j[0] * (1 - 1e-7) <= kept.energy_j <= highest.energy_j * (1 + 1e-9)
    assert envpipe(one).energy_j >= found.energy_j[0] * (1 - 1e-6)
    assert envpipe(one).iteration_s <= highest.iteration_s * (1 + 1e-9)
    straggler_s = 1.3 * highest.iteration_s
    beside = found.beside_straggler(straggler_s)
    assert beside.iteration_s == pytest.approx(straggler_s)
    assert beside.energy_j <= one.outcome(highest.clocks, straggler_s).energy_j * (1 + 1e-9)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_an_iteration_takes_as_long_as_the_graph_of_the_schedule(schedule: str) -> None:
    one = pipeline([0.5, 1.0, 0.7], 5, schedule=schedule)
    graph = pipeline_graph(SCHEDULES[schedule](), 3, 5)
    for iteration_s in (frontier(one).shortest_s, 12.0, 25.0):
        graph.duration_s[: len(one.slots)] = (
            frontier(one).pass_seconds(max(iteration_s, frontier(one).shortest_s)).tolist()
        )
        assert one.iteration_s(graph.duration_s) == pytest.approx(max_plus(graph).makespan_s, rel=1e-12)


def test_stages_alike_leave_only_the_bubble_to_slow_and_an_idle_stage_goes_to_its_cheapest_clock() -> None:
    alone = frontier(pipeline([1.0], 4))
    assert alone.run().clocks == highest_clock(alone.pipeline).clocks
    uneven = frontier(pipeline([0.1, 1.0], 4)).run()
    cheapest = profile(0.1).curve(BLOCKING_W).seconds[0]
    assert max(point.seconds for point in uneven.clocks[:8]) == pytest.approx(2 * cheapest, rel=0.3)
    assert uneven.clocks[8:] == highest_clock(pipeline([0.1, 1.0], 4)).clocks[8:]


def test_one_clock_for_all_costs_time_and_one_a_stage_costs_less_energy_for_it() -> None:
    one = pipeline([0.6, 1.0], 6)
    shared, balanced = zeus_global(one), zeus_per_stage(one)
    assert [round(found.clocks[0].setting) for found in shared] == [1400, 1200, 1000, 800]
    assert all(a.iteration_s < b.iteration_s for a, b in pairwise(shared))
    assert balanced[0].iteration_s == pytest.approx(shared[0].iteration_s, rel=0.15)
    assert balanced[0].energy_j < shared[0].energy_j
    least = frontier(one)
    for found in (*shared, *balanced):
        assert least.planned_j(found.iteration_s) <= found.energy_j * (1 + 1e-9)


def test_what_cannot_be_is_a_sentence() -> None:
    with pytest.raises(ImpossibleError, match="from the highest down"):
        PassProfile.of((1000.0, 1000.0), (1.0, 2.0), (1.0, 1.0))
    with pytest.raises(ImpossibleError, match="2 clocks, 1 times"):
        PassProfile.of((1000.0, 900.0), (1.0,), (1.0, 1.0))
    with pytest.raises(ImpossibleError, match="has no profile"):
        Pipeline(SCHEDULES["1f1b"]().programs(2, 1), {(FORWARD, 0): profile(1.0)}, 80.0)
    found: Frontier = frontier(pipeline([1.0, 1.0], 2))
    with pytest.raises(ImpossibleError, match="shorter than any clocks"):
        found.run(0.5 * found.shortest_s)
