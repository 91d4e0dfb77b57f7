"""A study's point as a scenario of its own, to be opened, changed and run like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim.metrics import summary_metric
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.plan.capacity import requests_at
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario
from sim.study import Point, Step, Study, scenario_of
from sim.study_metrics import study_metric
from sim.training.study_figures import TRAINING_FIGURES
from sim.training_scenario import TrainingScenario
from sim.workload import load_requests

DECODED_TOKENS = 64  # of each sequence, where a point is one decoding step
AT_ONCE_PER_S = 1e6
LIMITED = ("ttft_s", "tpot_s", "e2e_s")  # metrics that an SLO limits alike; its TBT is the longest of a request


def point_scenario(
    study: Study, point: Point, assumed: Mapping[str, Any] | None = None, rate_per_s: float | None = None
) -> AnyScenario:
    """What a point simulates, as a run: a step becomes requests that make it, a capacity its load, and a plan of
    training runs whether it fits or not.

    assumed: values for what the study assumes; the first of each by default. rate_per_s: of a capacity, the rate to
    run at; the workload's own by default. Raises FleetcastError.
    """
    values = {key: options[0] for key, options in study.assumed.items()} | dict(assumed or {})
    scenario = scenario_of(study, point, values, f"point '{point.name}'")
    scenario = scenario.model_copy(update={"name": _name(scenario.name, point.name)})
    if isinstance(scenario, OffloadedInferenceScenario):
        offload = scenario.offload.model_copy(update={"check_memory": False})
        return scenario.model_copy(update={"offload": offload})
    if isinstance(scenario, TrainingScenario):
        training = scenario.training.model_copy(update={"check_memory": False})
        return scenario.model_copy(update={"training": training})
    if point.step is not None:
        return _with_step(scenario, point.step)
    if point.metric == "capacity_per_s":
        return _at_rate(_with_limits(scenario, point), rate_per_s)
    return scenario


def reads_as(point: Point) -> str:
    """Which figure of such a run is the point's."""
    if point.metric == "capacity_per_s":
        limits = [
            f"{metric.name} of at most {metric.text(limit)}"
            for key, limit in point.limits.items()
            if (metric := summary_metric(key, "limits"))
        ]
        return f"the largest rate with {' and '.join(limits)}"
    if point.metric in TRAINING_FIGURES or point.payload_bytes is not None:
        return f"{study_metric(point.metric).name}, which only the study measures"
    if point.step is None:
        return summary_metric(point.metric, "metric").name
    if point.metric == "step_w":
        return summary_metric("mean_power_w_per_gpu_used", "metric").name
    if not point.step.decode_seqs:
        return "TTFT"
    return "TBT p99" if point.step.prefill_tokens else "TBT p50"


def _name(study: str, point: str) -> str:
    return f"{study}: {point}"[:200]


def _with_step(scenario: Scenario, step: Step) -> Scenario:
    """Requests that make such a step: prompts alone, decoding sequences, or decoding ones when a prompt comes in."""
    decoding = step.decode_seqs
    if not step.prefill_tokens:
        lengths, count, rate = (step.decode_context, DECODED_TOKENS), decoding, AT_ONCE_PER_S
    else:
        # One more than decode: while the last one's prompt is computed, the others decode.
        lengths, count, rate = (step.prefill_tokens, 1 + DECODED_TOKENS * bool(decoding)), 1 + decoding, 1.0
    workload = {
        "generator": {
            "name": "synthetic",
            "arrivals": {"name": "constant", "request_rate": rate},
            "prompt_tokens": max(lengths[0], 1),
            "output_tokens": lengths[1],
        },
        "num_requests": count,
    }
    return Scenario.model_validate(scenario.model_dump() | {"workload": workload})


def _with_limits(scenario: Scenario, point: Point) -> Scenario:
    """Its limits as an SLO, where they are ones that requests keep or break."""
    limits = {key.partition(".")[0]: limit for key, limit in point.limits.items()}
    slo = scenario.slo.model_copy(update={key: limits[key] for key in LIMITED if key in limits})
    return scenario.model_copy(update={"slo": slo})


def _at_rate(scenario: Scenario, rate_per_s: float | None) -> Scenario:
    """As many requests at such a rate as the search for a capacity ran."""
    if rate_per_s is None:
        return scenario
    count = len(requests_at(scenario.workload, scenario.seed, rate_per_s))
    counted = scenario.workload.model_copy(update={"duration_s": None, "num_requests": count})
    own_per_s = load_requests(counted, scenario.seed).mean_rate_per_s
    scaled = counted.model_copy(update={"rate_scale": counted.rate_scale * rate_per_s / own_per_s})
    return scenario.model_copy(update={"workload": scaled})
