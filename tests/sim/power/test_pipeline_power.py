"""[power] of replicas of several pipeline stages: clocks slow them, limits hold, and the clock splits no answer."""

from typing import Any

import numpy as np
import pytest

from hardware_models.errors import ImpossibleError
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.serving.energy import run_watts


def served(power: dict[str, Any] | None, *, exact: bool = False) -> Result:
    laws = {"arrivals": {"name": "poisson", "request_rate": 20.0}, "prompt_tokens": 1500, "output_tokens": 20}
    tables = {
        "seed": 1,
        "model": {"config": "llama-3-8b"},
        "cluster": {"node": "dgx-h100", "nodes": 1},
        "serving": {"pipeline_parallel_size": 2, "tensor_parallel_size": 1, "max_num_seqs": 32},
        "workload": {"num_requests": 10, "generator": {"name": "synthetic", **laws}},
        "power": power,
    }
    return run(Scenario.model_validate(tables), exact=exact)


def hottest_w(result: Result) -> float:
    """The most watts that a GPU of any stage has drawn as the mean of a step."""
    runs, deployment = result.run.runs.columns(), result.run.deployment
    stages = enumerate(result.attributions)
    return max(float(run_watts(runs, deployment, one, index).max()) for index, one in stages)


def test_lower_clocks_and_limits_hold_on_every_stage_and_cost_time_as_on_replicas_of_one() -> None:
    free, slow, held = served(None), served({"clock_mhz": 990.0}), served({"gpu_power_limit_w": 300.0})
    assert hottest_w(held) <= 300.0 * (1 + 1e-3) < hottest_w(free)
    assert set(np.unique(slow.run.runs.columns()["clock"])) == {0.5}
    clocks = held.run.runs.columns()["clock"]
    assert clocks.min() < clocks.max() <= 1.0
    for result in (slow, held):
        assert result.summary["duration_s"] > free.summary["duration_s"]
        assert result.summary["energy_j"] < free.summary["energy_j"]
        parts = result.summary["energy"]["parts_j"]
        gpus_j = sum(parts[name] for name in ("prompt", "decode", "waiting", "unused"))
        assert gpus_j == pytest.approx(result.summary["energy_j"], rel=1e-9)


def test_one_event_a_step_gives_the_same_joules_and_times() -> None:
    power = {"decode_clock_mhz": 1200.0, "gpu_power_limit_w": 350.0}
    fast, exact = served(power).summary, served(power, exact=True).summary
    for name in ("energy_j", "duration_s"):
        assert exact[name] == pytest.approx(fast[name], rel=1e-9)


def test_who_changes_clocks_while_it_runs_is_refused() -> None:
    with pytest.raises(ImpossibleError, match=r"a row's limit with serving.pipeline_parallel_size = 2"):
        served({"provisioned_nodes": 1})
