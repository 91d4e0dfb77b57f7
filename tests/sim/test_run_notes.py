"""What a run's notes say of its workload."""

import numpy as np

from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, SloSection, WorkloadSection
from workloads.request import RequestTable


def test_a_demand_beyond_what_is_sustained_is_named():
    def said(rate_per_s: float, count: int = 400) -> str:
        table = RequestTable.build(
            source="test",
            arrival_s=np.arange(count) / rate_per_s,
            prompt_tokens=np.full(count, 500),
            output_tokens=np.full(count, 100),
        )
        scenario = Scenario(
            model=ModelSection(config="llama-3.1-8b"),
            cluster=ClusterSection(node="l40s-1x"),
            workload=WorkloadSection(trace="none"),
            slo=SloSection(ttft_s=1.0),
        )
        return " ".join(run(scenario, requests=table).summary["notes"])

    assert "more than this deployment sustains" in said(100.0)
    assert "sustains" not in said(1.0)
    assert "p99 of 400 requests" not in said(1.0)
    assert "p99 of 50 requests is the largest of them" in said(1.0, 50)
