"""What a simulated batch job of offloaded inference returns."""

from __future__ import annotations

from dataclasses import dataclass

from sim.graph_result import GraphResult
from sim.offload.inference_run import InferenceRun, simulate_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.offload.inference_summary import summarise_inference


@dataclass
class OffloadedInferenceResult(GraphResult[OffloadedInferenceScenario, InferenceRun]):
    """Figures of a job."""


def run_inference(scenario: OffloadedInferenceScenario, *, exact: bool = False) -> OffloadedInferenceResult:
    """Simulate a batch job; raises FleetcastError for an impossible one.

    exact: every decoding step, on SimPy's clock.
    """
    run = simulate_inference(scenario, exact=exact)
    return OffloadedInferenceResult(scenario, summarise_inference(run), run)
