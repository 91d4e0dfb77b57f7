"""How TTFT and TBT grow with the request rate, for two schedulers, over seeds: a table, a CSV file and a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import plotly.express as px

from sim.sweep import make_sweep, run_sweep

HERE = Path(__file__).parent
RATES = [0.5, 1.0, 1.5, 2.0, 2.5]  # times the traffic as measured

SWEEP = {
    "schema": 1,
    "name": "latency-curve",
    "scenario": "../scenarios/chat-70b-chunked.toml",
    "seeds": [1, 2, 3],
    "axes": {
        "workload.rate_scale": RATES,
        "serving.scheduler.name": ["chunked_prefill", "prefill_first"],
        "workload.duration_s": [300],
    },
    "goal": {"minimize": "max_tbt_s.p99"},
}


def main(overrides: list[str]) -> None:
    """Sweep, print and draw; overrides as of `fleetcast sweep --set`."""
    out = Path("runs/latency-curve")
    rows = run_sweep(make_sweep(SWEEP, HERE / "latency_curve.py", overrides), out)
    served = rows[rows["status"] == "ok"]
    table = served.groupby(["serving.scheduler.name", "workload.rate_scale"])[["ttft_s.p99", "max_tbt_s.p99"]].mean()
    print((table * 1e3).round(0).rename(columns=lambda name: name.replace("_s.", " ") + ", ms"))
    table.to_csv(out / "latency_curve.csv")
    picture = px.line(
        table.reset_index(), x="workload.rate_scale", y="max_tbt_s.p99", color="serving.scheduler.name", markers=True
    )
    picture.write_html(out / "latency_curve.html")


if __name__ == "__main__":
    main(sys.argv[1:])
