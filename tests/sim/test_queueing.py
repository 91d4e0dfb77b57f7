"""The engine as textbook queues: M/D/1 (Pollaczek-Khinchine) and M/M/c (Erlang C).

A mean wait within 1 % at three standard errors takes millions of requests at high load. So each queue is checked in
two halves:
the engine gives every single request the wait of a recursion of a few lines (Kiefer and Wolfowitz, 1955), and that
recursion,
vectorised over independent queues, meets the closed form.
"""

from math import factorial

import numpy as np
import pytest
from engines import LinearRows, serve, table

from sim.serving.step_cost import StageCost

STEP_S = 0.01


def flat_cost() -> StageCost:
    """Every step takes STEP_S, whatever is in it."""
    return StageCost(LinearRows(STEP_S, 0.0), [], [], 0, 0.0, 0.0, 0.0, 0.0)  # type: ignore[arg-type]


def recursion(arrival_s: np.ndarray, steps: np.ndarray, servers: int) -> np.ndarray:
    """Waits of first-come-first-served queues whose servers step together: (queues, requests), both arguments too.

    A server that is free takes the newcomer when the step under way ends, at once where all are idle.
    """
    queues, count = arrival_s.shape
    free_s = np.zeros((queues, servers))  # when each server will be done, soonest first
    origin_s = np.zeros(queues)  # start of the busy period, on which the steps are counted
    waits = np.empty((queues, count))
    for i in range(count):
        now_s = arrival_s[:, i]
        idle = free_s[:, -1] <= now_s
        origin_s = np.where(idle, now_s, origin_s)
        step_end_s = origin_s + np.ceil((now_s - origin_s) / STEP_S) * STEP_S
        start_s = np.maximum(step_end_s, free_s[:, 0])
        waits[:, i] = start_s - now_s
        free_s[:, 0] = start_s + steps[:, i] * STEP_S
        free_s.sort(axis=1)
    return waits


def settled_means(waits: np.ndarray) -> np.ndarray:
    """Each queue's mean wait once a quarter of its requests has come."""
    return waits[:, waits.shape[1] // 4 :].mean(axis=1)


def mean_and_error(means: np.ndarray) -> tuple[float, float]:
    """Mean over independent queues, and its standard error."""
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def engine_waits(arrival_s: np.ndarray, steps: np.ndarray, servers: int) -> np.ndarray:
    served = serve(
        table(arrival_s, np.ones(len(steps)), steps),
        max_num_seqs=servers,
        max_num_batched_tokens=2 * servers,
        blocks=1_000_000,
        cost=flat_cost(),
    )
    return served.times()[0] - arrival_s


def exponential_arrivals(rng: np.random.Generator, rate_per_s: float, queues: int, count: int) -> np.ndarray:
    return np.cumsum(rng.exponential(1.0 / rate_per_s, (queues, count)), axis=1)


# -- M/D/1 -------------------------------------------------------------------------------------------------------------

MD1_STEPS = 5
MD1_SIZE = {0.3: (2000, 800), 0.6: (2000, 1500), 0.85: (4000, 4000)}  # independent queues, requests each


def test_the_service_time_of_the_md1_queue_is_a_lone_requests_time():
    served = serve(table([0.0], [1], [MD1_STEPS]), max_num_seqs=1, max_num_batched_tokens=2, cost=flat_cost())
    assert served.times()[2, 0] == pytest.approx(MD1_STEPS * STEP_S, rel=1e-12)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_one_seat_and_equal_requests_wait_as_in_md1(load):
    service_s = MD1_STEPS * STEP_S
    rng = np.random.default_rng(1)
    queues, count = MD1_SIZE[load]
    arrival_s = exponential_arrivals(rng, load / service_s, queues, count)
    waits = recursion(arrival_s, np.full(arrival_s.shape, MD1_STEPS), servers=1)
    for queue in range(0, queues, queues // 10)[:10]:
        engine = engine_waits(arrival_s[queue], np.full(count, MD1_STEPS), servers=1)
        assert np.abs(engine - waits[queue]).max() < 1e-9
    mean_s, error_s = mean_and_error(settled_means(waits))
    expected_s = load * service_s / (2.0 * (1.0 - load))
    assert 3.0 * error_s < 0.01 * expected_s
    assert mean_s == pytest.approx(expected_s, rel=0.01)


# -- M/M/c -------------------------------------------------------------------------------------------------------------

MEAN_STEPS = 1000  # so long a service that whole steps do not show


def erlang_c_wait_s(servers: int, load: float, service_s: float) -> float:
    """Mean wait of M/M/c (Erlang, 1917); load: of each server."""
    offered = servers * load
    last = offered**servers / factorial(servers) / (1.0 - load)
    delayed = last / (sum(offered**k / factorial(k) for k in range(servers)) + last)
    return delayed * service_s / (servers * (1.0 - load))


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (4, 0.7)])
def test_as_many_seats_as_servers_wait_as_in_mmc(servers, load):
    service_s, queues, count = MEAN_STEPS * STEP_S, 5000, 1500
    rng = np.random.default_rng(2)
    rounds = []
    for _ in range(4):
        arrival_s = exponential_arrivals(rng, servers * load / service_s, queues, count)
        steps = rng.geometric(1.0 / MEAN_STEPS, arrival_s.shape)
        waits = recursion(arrival_s, steps, servers)
        rounds.append(settled_means(waits))
        for queue in range(4):
            engine = engine_waits(arrival_s[queue], steps[queue], servers)
            assert np.abs(engine - waits[queue]).max() < 1e-7  # of times up to hours
    mean_s, error_s = mean_and_error(np.concatenate(rounds))
    expected_s = erlang_c_wait_s(servers, load, service_s)
    assert 3.0 * error_s < 0.01 * expected_s
    assert mean_s == pytest.approx(expected_s, rel=0.01)
