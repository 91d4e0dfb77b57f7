"""A reference run against the simulator: the same requests, limits and policy on the catalog's device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.reference_server.record import REQUESTS, STEPS, read_facts, read_frame, served_table
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.section import PolicyChoice
from sim.serving.attribution import attribute
from sim.serving.deployment import Deployment
from sim.serving.record import RUN_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Row = tuple[str, str, str, int, float, float]
LATENCIES = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
STATISTICS: dict[str, Callable[[Floats], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "p50": lambda values: float(np.percentile(values, 50)),
    "p90": lambda values: float(np.percentile(values, 90)),
    "p99": lambda values: float(np.percentile(values, 99)),
}
COLUMNS = ("metric", "group", "statistic", "count", "measured", "simulated")


def compare_with_simulation(folder: Path, *, node: str | None = None, engine: str = "ideal") -> pd.DataFrame:
    """Measured against simulated: one row a metric, group of steps and statistic.

    node: catalog node whose GPU to simulate; None: by the name of the device that was measured. engine: profile of
    software overheads; `ideal` has none, so that what remains is the server's own. Columns: metric (unit in its name),
    group (all, or a composition of steps), statistic, count, measured, simulated, error_fraction (simulated over
    measured, less one). Requests that never started or were cut off are left out of the latencies. Metrics `step_s`
    and `device_s` price each measured step by itself, whatever the two schedules did: the first with the host's work,
    the second without.
    """
    import pandas as pd

    facts, requests, steps = read_facts(folder), read_frame(folder, REQUESTS), read_frame(folder, STEPS)
    scenario = matching_scenario(facts, folder, node, engine)
    result = run(scenario, requests=served_table(requests, str(folder)))
    started = requests[np.isfinite(requests["queue_s"])].reset_index(drop=True)
    priced = price_steps(result.run.deployment, steps)
    rows = [*_request_rows(started, result.requests), *_step_rows(steps, priced)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["error_fraction"] = frame["simulated"] / frame["measured"] - 1.0
    return frame


def matching_scenario(facts: dict[str, Any], folder: Path, node: str | None, engine: str) -> Scenario:
    """The run as a scenario: KV blocks are what the server had."""
    options = facts["options"]
    return Scenario(
        name=f"reference {facts['model']}",
        seed=options["seed"],
        model=ModelSection(
            config=facts["model"],
            weight_dtype=options["dtype"],
            activation_dtype=options["dtype"],
            kv_cache_dtype=options["dtype"],
        ),
        cluster=ClusterSection(node=node or _node_of(facts["device_name"])),
        serving=ServingSection(
            engine=engine,
            max_num_seqs=options["max_num_seqs"],
            max_num_batched_tokens=options["max_num_batched_tokens"],
            max_model_len=options.get("max_model_len"),
            block_size=options["block_size"],
            gpu_memory_utilization=options["gpu_memory_utilization"],
            num_gpu_blocks_override=facts["kv_blocks"],
            scheduler=PolicyChoice(name=options["scheduler"]),
        ),
        workload=WorkloadSection(trace=str(folder / REQUESTS)),
    )


def _node_of(device_name: str) -> str:
    """The first catalog node with GPUs of a driver's name, such as 'NVIDIA H200'."""
    gpu = "-".join(device_name.lower().split()[1:])
    nodes = [name for name in catalog.names("node") if catalog.node(name).gpu == gpu]
    if not nodes:
        raise FleetcastError(f"run.toml: no catalog node has a '{device_name}'; name the one to simulate with --node")
    return nodes[0]


def price_steps(deployment: Deployment, steps: pd.DataFrame) -> Floats:
    """Seconds of each measured step as the simulator prices its composition: (2, steps), with and without what the
    profile has the host do before the device starts.
    """
    stage = deployment.stages[0]
    columns = {name: np.zeros(len(steps)) for name in RUN_COLUMNS}
    for name in ("prefill_tokens", "chunks", "pairs", "chunk_context", "decode_seqs", "context_tokens"):
        columns[name] = steps[name].to_numpy(dtype=float)
    columns["iterations"] = columns["work_steps"] = np.ones(len(steps))
    samples = columns["chunks"] + columns["decode_seqs"]
    rows = columns["prefill_tokens"] + columns["decode_seqs"]
    stage.rows.grow(int(rows.max(initial=1)), int(samples.max(initial=1)))
    whole = attribute(columns, stage, first_stage=True).busy_s
    return np.stack([whole, whole - stage.host_s_per_step - stage.host_s_per_sequence * samples])


def _request_rows(measured: pd.DataFrame, simulated: pd.DataFrame) -> Iterator[Row]:
    done = np.isfinite(measured["e2e_s"].to_numpy()) & np.isfinite(simulated["e2e_s"].to_numpy())
    for metric in LATENCIES:
        pair = [frame[metric].to_numpy(dtype=float)[done] for frame in (measured, simulated)]
        kept = np.isfinite(pair[0]) & np.isfinite(pair[1])
        if kept.any():
            for name, statistic in STATISTICS.items():
                yield metric, "all", name, int(kept.sum()), statistic(pair[0][kept]), statistic(pair[1][kept])
    if done.any():
        spans = [_span_s(frame[done]) for frame in (measured, simulated)]
        count, tokens = int(done.sum()), float(measured["output_tokens"][done].sum())
        yield "requests_per_s", "all", "mean", count, count / spans[0], count / spans[1]
        yield "output_tokens_per_s", "all", "mean", count, tokens / spans[0], tokens / spans[1]


def _span_s(requests: pd.DataFrame) -> float:
    """First arrival to last token."""
    return float((requests["arrival_s"] + requests["e2e_s"]).max() - requests["arrival_s"].min())


def _step_rows(steps: pd.DataFrame, priced: Floats) -> Iterator[Row]:
    groups = np.asarray([_composition(int(p), int(d)) for p, d in steps[["prefill_tokens", "decode_seqs"]].to_numpy()])
    order = ["all", *sorted(set(groups), key=_composition_key)]
    for metric, column, prices in (("step_s", "duration_s", priced[0]), ("device_s", "device_s", priced[1])):
        measured = steps[column].to_numpy(dtype=float)
        for group in order:
            rows = np.ones(len(steps), dtype=bool) if group == "all" else groups == group
            for name in ("mean", "p50"):
                statistic = STATISTICS[name]
                yield metric, group, name, int(rows.sum()), statistic(measured[rows]), statistic(prices[rows])


def _composition(prefill_tokens: int, decode_seqs: int) -> str:
    """What a step holds, in powers of two: 'prefill <= 512, decode <= 16'."""
    parts = (("prefill", prefill_tokens), ("decode", decode_seqs))
    return ", ".join(f"{what} <= {1 << (count - 1).bit_length()}" for what, count in parts if count)


def _composition_key(group: str) -> tuple[bool, list[int]]:
    """Decode-only steps first, then by size."""
    return "prefill" in group, [int(word) for word in group.replace(",", "").split() if word.isdigit()]
