import numpy as np

from sim.run import run
from sim.scenario import Scenario, WorkloadSection
from sim.sweep.request_cache import RequestCache
from sim.workload import load_requests


def workload(seconds: float) -> WorkloadSection:
    return WorkloadSection(trace="azure-conv-2023", duration_s=seconds)


def test_requests_are_those_of_a_run_and_drawn_once() -> None:
    cache = RequestCache()
    first = cache.requests(workload(20), 3)
    assert cache.requests(workload(20), 3) is first
    assert np.array_equal(first.arrival_s, load_requests(workload(20), 3).arrival_s)
    assert cache.requests(workload(20), 4) is not first
    assert len(cache.requests(workload(10), 3)) < len(first)


def test_the_longest_unused_go_first_and_large_ones_are_not_kept() -> None:
    sizes = [len(load_requests(workload(20), seed)) for seed in (1, 2, 3)]
    cache = RequestCache(most=max(sizes[0] + sizes[1], sizes[0] + sizes[2]))
    first, second = cache.requests(workload(20), 1), cache.requests(workload(20), 2)
    assert cache.requests(workload(20), 1) is first
    cache.requests(workload(20), 3)
    assert cache.requests(workload(20), 1) is first
    assert cache.requests(workload(20), 2) is not second
    small = RequestCache(most=1)
    assert small.requests(workload(20), 1) is not small.requests(workload(20), 1)


def test_a_run_leaves_its_requests_as_they_were() -> None:
    table = load_requests(workload(20), 1)
    before = {name: np.copy(getattr(table, name)) for name in ("arrival_s", "prompt_tokens", "output_tokens")}
    tables = {"model": {"config": "llama-3.1-8b"}, "cluster": {"node": "dgx-h100"}}
    scenario = Scenario.model_validate({**tables, "workload": workload(20), "seed": 1})
    first, second = (run(scenario, requests=table).summary_json() for _ in range(2))
    assert first == second == run(scenario).summary_json()
    assert all(np.array_equal(getattr(table, name), values) for name, values in before.items())
