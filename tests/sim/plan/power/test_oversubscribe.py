"""How many servers a breaker carries: the search, what is scaled with the servers, and what so many runs prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.plan.power import Criteria, OversubscribeOptions, Oversubscription, plan_oversubscription, with_servers
from sim.plan.power.climb import Climbed, climb
from sim.plan.power.confidence import highest_rate, highest_share, runs_needed
from sim.plan.power.rating import IMPACTS, Rating
from sim.plan.power.table import oversubscription_json
from sim.plan.power.trial import FIGURES, Answer, simulate_row
from sim.scenario import Scenario
from sim.sweep.local import Done
from sim.sweep.point import INFEASIBLE, OK, Job, Outcome
from sim.sweep.schedule import Schedule
from sim.workload import load_requests

EASY = Criteria(trips_per_h=1e9, brakes_per_h=1e9, high_p50=1e9, high_p99=1e9, low_p50=1e9, low_p99=1e9)
CLIENTS = [
    {
        "name": name,
        "priority": priority,
        "arrivals": {"name": "profile", "t_s": [0, 15, 30], "request_rate": [1.0, 9.0, 1.0]},
        "prompt_tokens": {"name": "uniform", "min_tokens": 100, "max_tokens": 4000},
        "output_tokens": {"name": "uniform", "min_tokens": 1, "max_tokens": 100},
    }
    for name, priority in (("high", 0), ("low", 1))
]
SHORT = {"generator": {"name": "clients", "clients": CLIENTS}, "duration_s": 12.0}
ROW = {
    "name": "row",
    "seed": 5,
    "model": {"config": "llama-3-70b"},
    "cluster": {"node": "dgx-h100", "nodes": 4},
    "serving": {"replicas": 8, "tensor_parallel_size": 4, "low_priority_replicas": 3},
    "workload": {"generator": {"name": "clients", "clients": CLIENTS}, "duration_s": 30.0},
    "power": {"row_limit_w": 22_000.0, "actuation_delay_s": 2.0, "policy": {"name": "polca", "t1_low_mhz": 1200.0}},
}


def row(**changes: Any) -> Scenario:
    return Scenario.model_validate(ROW | changes)


def climbed(is_safe: Callable[[int], bool], least: int, most: int, stride: int) -> Climbed:
    search = climb(least, most, stride)
    wanted = next(search)
    while True:
        try:
            wanted = search.send({number: is_safe(number) for number in wanted})
        except StopIteration as end:
            found: Climbed = end.value
            return found


@given(st.integers(1, 50), st.integers(0, 60), st.integers(1, 12), st.integers(0, 120))
def test_where_more_servers_are_never_safer_the_highest_safe_number_is_found(
    least: int, more: int, stride: int, highest: int
) -> None:
    found = climbed(lambda number: number <= highest, least, least + more, stride)
    assert found.best == (min(highest, least + more) if highest >= least else None)
    assert found.bounded == (highest < least + more)
    assert not found.odd


@given(st.integers(1, 8), st.sets(st.integers(10, 40)))
def test_otherwise_the_answer_has_safe_and_tried_neighbours_and_nothing_unsafe_below(
    stride: int, unsafe: set[int]
) -> None:
    found = climbed(lambda number: number not in unsafe, 10, 40, stride)
    assert all(found.tried[number] == (number not in unsafe) for number in found.tried)
    if found.best is None:
        assert 10 in unsafe
        return
    assert all(safe for number, safe in found.tried.items() if number <= found.best)
    if found.bounded:
        assert found.best == 10 or found.tried[found.best - 1]
        assert found.tried[found.best + 1] is False
        assert found.best + 2 in found.tried or found.best + 2 > 40


def test_servers_bring_replicas_and_requests_in_proportion_and_each_keeps_its_load() -> None:
    small = row()
    large = with_servers(small, 6)
    assert (large.cluster.nodes, large.serving.replicas, large.serving.low_priority_replicas) == (6, 12, 5)
    rates = [client["arrivals"]["request_rate"][1] for client in large.workload.generator["clients"]]  # type: ignore[index]
    assert rates == pytest.approx([9.0 * 7 / 5, 9.0 * 5 / 3])  # of high priority by its replicas, of low by theirs
    few, many = (load_requests(one.workload, 0) for one in (small, large))
    assert len(many) / len(few) == pytest.approx(1.5, rel=0.15)
    middle = [np.median(one.arrival_s) for one in (few, many)]
    assert middle == pytest.approx([15.0, 15.0], rel=0.1)  # half a minute keeps its shape
    assert with_servers(small, 4) == small
    trace = row(workload={"trace": "azure-llm-2023-conv", "num_requests": 100}, serving={"replicas": 4})
    assert with_servers(trace, 6).workload.rate_scale == 1.5
    assert with_servers(trace, 6).workload.num_requests == 150
    with pytest.raises(FleetcastError, match="give a multiple"):
        with_servers(row(serving={"replicas": 6}), 6)


def test_bounds_from_so_many_runs_are_those_of_the_books() -> None:
    assert highest_rate(0, 2.0, 0.95) == pytest.approx(2.9957 / 2.0, rel=1e-4)  # the rule of three
    assert highest_rate(1, 1.0, 0.95) == pytest.approx(4.7439, rel=1e-4)
    assert highest_share(0, 3, 0.95) == pytest.approx(1.0 - 0.05 ** (1 / 3))
    assert highest_share(3, 3, 0.95) == 1.0
    assert highest_share(1, 10, 0.95) == pytest.approx(0.3942, rel=1e-3)
    assert highest_share(0, runs_needed(0.05, 0.95), 0.95) <= 0.05 < highest_share(0, 58, 0.95)


class Made:
    """Answers that are made up, in place of simulations."""

    def __init__(self, answer: Callable[[Scenario], dict[str, float] | str]) -> None:
        self._answer = answer
        self.ran: list[Scenario] = []

    def run(self, schedule: Schedule, job: Callable[[int], Job]) -> Iterator[Done | None]:
        while (index := schedule.next(0)) is not None:
            asked = job(index)
            self.ran.append(Scenario.model_validate(asked.tables))
            found = self._answer(self.ran[-1])
            if isinstance(found, str):
                yield asked, Outcome(INFEASIBLE, found)
            else:
                figures = dict.fromkeys(FIGURES, 0.0) | {"hours": 1.0} | dict.fromkeys(IMPACTS, 1.0) | found
                yield asked, Outcome(OK, figures=tuple(figures[name] for name in FIGURES))


def planned(answer: Callable[[Scenario], dict[str, float] | str], **options: Any) -> tuple[Oversubscription, Made]:
    runner = Made(answer)
    chosen = OversubscribeOptions(built_for=10, most_servers=30, **options)
    return plan_oversubscription(row(), chosen, runner=runner), runner


def peaks(scenario: Scenario) -> dict[str, float]:
    """A kilowatt a server and brakes beyond the limit of 22; polca slows the low priority instead, up to 25 servers."""
    assert scenario.power is not None
    servers, limit_w = scenario.cluster.nodes, scenario.power.row_limit_w or 0.0
    watts = 1_000.0 * servers
    if watts <= limit_w:
        return {"row_peak_w": watts}
    if scenario.power.policy.name == "polca":
        return {"row_peak_w": limit_w, "low_p99": 1.05 + 0.1 * (servers - 21)}
    return {"row_peak_w": watts, "brakes": 1.0, "over_limit_s": 20.0}


def test_each_policy_s_highest_safe_number_and_what_it_breaks_next_are_found() -> None:
    found, runner = planned(peaks)
    table = oversubscription_json(found)
    assert {one["policy"]: one["servers"] for one in table["policies"]} == {
        "polca": 25, "brake_only": 22, "one_threshold": 22,
    }  # fmt: skip
    assert table["binding"]["criteria"] == ["low_p99"]
    assert table["binding"]["servers"] == 26
    assert table["oversubscription"] == pytest.approx(1.5)
    assert [one["breaks"] for one in table["policies"]][1:] == [["brakes_per_h"], ["brakes_per_h"]]
    assert found.best is not None
    assert (found.best.cluster.nodes, found.best.seed) == (25, 5)
    assert table["sure"]["most_brakes_per_h"] == pytest.approx(2.9957 / 3, rel=1e-4)
    asked = [(one.cluster.nodes, one.seed, one.power) for one in runner.ran]
    assert len({repr(one) for one in asked}) == len(asked)  # nothing runs twice


def test_an_answer_that_other_seeds_do_not_bear_out_is_lowered() -> None:
    found, _ = planned(lambda one: peaks(one) | {"breaker_trips": float(one.seed > 7 and one.cluster.nodes > 23)})
    assert found.own.climbed is not None
    assert found.own.climbed.best == 25
    assert [rating.servers for rating in found.confirmed] == [25, 24, 23]
    assert found.answer is not None
    assert found.answer.servers == 23
    assert oversubscription_json(found)["binding"]["servers"] == 24


def test_what_cannot_be_is_left_out_or_said() -> None:
    def some(one: Scenario) -> dict[str, float] | str:
        name = one.power.policy.name if one.power is not None else ""
        return "no such clock" if name == "one_threshold" else peaks(one)

    policies = oversubscription_json(planned(some)[0])["policies"]
    assert [one["refused"] for one in policies] == ["", "", "no such clock"]
    with pytest.raises(FleetcastError, match="too hot"):
        planned(lambda _: "too hot")
    with pytest.raises(FleetcastError, match="no row with a breaker"):
        plan_oversubscription(row(power=None), runner=Made(peaks))
    with pytest.raises(FleetcastError, match="did you mean"):
        Criteria().changed(["high_p9=1"])
    with pytest.raises(FleetcastError, match="write it as"):
        Criteria().changed(["high_p99=much"])
    assert Criteria().changed(["high_p99=7.5%", "brakes_per_h=2"]) == Criteria(high_p99=0.075, brakes_per_h=2.0)


def test_impacts_judge_by_the_worst_seed_and_rates_by_all() -> None:
    free = tuple(Answer(dict.fromkeys(FIGURES, 1.0)) for _ in range(3))
    limited = tuple(
        replace(one, figures={**one.figures, "brakes": 0.0, "breaker_trips": 0.0, "low_p99": 1.0 + rise})
        for one, rise in zip(free, (0.1, 0.2, 0.6), strict=True)
    )
    rating = Rating("polca", 12, (1, 2, 3), limited, free)
    assert rating.broken(Criteria()) == ["low_p99"]
    assert rating.seeds_that_break(Criteria()) == 1
    assert rating.safe(Criteria(low_p99=0.61))
    assert rating.reached["over_limit_s_per_h"] == 1.0


def test_a_row_below_the_first_threshold_runs_as_without_a_limit_so_that_it_need_not_run_again() -> None:
    wide = row(power={"row_limit_w": 40_000.0, "policy": {"name": "polca"}}, workload=SHORT)
    found = plan_oversubscription(
        wide,
        OversubscribeOptions(criteria=EASY, built_for=4, most_servers=4, seeds=2, confirm=0, policies=()),
        runner=(runner := Simulated()),
    )
    assert found.answer is not None
    assert found.answer.peaks(40_000.0)[0] < 0.8
    assert [one.power.policy.name for one in runner.ran if one.power is not None] == ["brake_only"] * 2 + ["polca"]
    assert found.answer.limited[0].figures == found.answer.free[0].figures
    again = found.answer.limited[1].figures  # of the other seed, whose run with a limit was not simulated
    own = simulate_row(Job(0, "", wide.model_copy(update={"seed": 6}).model_dump()))
    assert dict(zip(FIGURES, own.figures, strict=True)) == again


class Simulated(Made):
    """Simulations in this process."""

    def __init__(self) -> None:
        def real(scenario: Scenario) -> dict[str, float] | str:
            outcome = simulate_row(Job(0, "", scenario.model_dump()))
            return outcome.reason or dict(zip(FIGURES, outcome.figures, strict=True))

        super().__init__(real)


def test_a_real_row_is_slowed_before_it_is_braked() -> None:
    found = plan_oversubscription(
        row(workload=SHORT),
        OversubscribeOptions(criteria=EASY, built_for=4, most_servers=5, seeds=1, confirm=0, policies=()),
        runner=Simulated(),
    )
    rows = oversubscription_json(found)["rows"]
    assert [one["servers"] for one in rows] == [4, 5]
    assert all(one["low_priority_locked_s"] > 0.0 for one in rows)
    assert rows[0]["low_p99"][0] > 0.0
    assert rows[1]["peak_fraction_without_limit"][0] > rows[0]["peak_fraction_without_limit"][0]
