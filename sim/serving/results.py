"""Turns the logs of a serving run into tidy frames and a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.scenario import SloSection
from sim.serving.attribution import Attribution
from sim.serving.deployment import Deployment
from sim.serving.energy import run_watts
from sim.serving.record import RequestLog, RunLog, run_seconds
from sim.serving.row_costs import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

REQUEST_COLUMNS = {
    "request_id": "as the trace has it",
    "arrival_s": "since the start of the run",
    "prompt_tokens": "tokens in",
    "output_tokens": "tokens out",
    "cached_tokens": "prompt tokens found in a prefix cache",
    "queue_s": "arrival to first scheduling",
    "ttft_s": "arrival to first token",
    "tpot_s": "mean gap between tokens after the first; NaN for one token",
    "max_tbt_s": "longest gap between two tokens; NaN for one token",
    "e2e_s": "arrival to last token",
    "preemptions": "times put off for want of memory",
    "replica": "engine that served it; -1: rejected",
    "tenant": "as the trace has it",
    "priority": "as the trace has it; lower is served first, above 0 is low",
    "slo_met": "all limits of [slo] kept",
}


def request_columns(log: RequestLog, slo: SloSection) -> dict[str, Any]:
    """One array a column of REQUEST_COLUMNS: (requests,); NaN latencies where a request was rejected."""
    table = log.requests
    arrival = table.arrival_s
    ttft = np.frombuffer(log.first_token_s) - arrival
    e2e = np.frombuffer(log.finish_s) - arrival
    output = table.output_tokens
    tpot = np.where(output > 1, (e2e - ttft) / np.maximum(output - 1, 1), np.nan)
    max_tbt = np.frombuffer(log.max_gap_s)
    met = np.isfinite(e2e)
    for values, limit in ((ttft, slo.ttft_s), (max_tbt, slo.tbt_s), (tpot, slo.tpot_s), (e2e, slo.e2e_s)):
        if limit is not None:
            met &= (values <= limit) | np.isnan(values)  # one token has no gap to miss a limit with
    return {
        "request_id": table.request_id if table.labels is None else np.asarray(table.labels),
        "arrival_s": arrival,
        "prompt_tokens": table.prompt_tokens,
        "output_tokens": output,
        "cached_tokens": np.frombuffer(log.cached_tokens, dtype=np.int64),
        "queue_s": np.frombuffer(log.first_scheduled_s) - arrival,
        "ttft_s": ttft,
        "tpot_s": tpot,
        "max_tbt_s": max_tbt,
        "e2e_s": e2e,
        "preemptions": np.frombuffer(log.preemptions, dtype=np.int64),
        "replica": np.frombuffer(log.replica, dtype=np.int64),
        "priority": np.zeros(len(table), dtype=np.int64) if table.priority is None else table.priority,
        "tenant": np.full(len(table), None) if table.tenant is None else np.asarray(table.tenant, dtype=object),
        "slo_met": met,
    }


def steps_frame(runs: RunLog, attributions: list[Attribution], deployment: Deployment) -> pd.DataFrame:
    """One row a run of equal steps; `iterations` says how many, `slope_s` how much longer each next one takes.

    A step whose clock changed under way is a row a clock, of which the last counts.

    Columns: replica, lane, start_s, duration_s (whole run), first_s, slope_s, iterations, prefill_tokens, decode_seqs,
    context_tokens (each a step, at the first), kv_blocks (at the end), waiting, bound_by, power_w (mean of its GPUs').
    """
    import pandas as pd

    columns = runs.columns()
    duration = run_seconds(columns)
    bound = np.argmax(np.sum([a.seconds for a in attributions], axis=0), axis=0)
    integer = (
        "replica",
        "lane",
        "iterations",
        "prefill_tokens",
        "decode_seqs",
        "context_tokens",
        "kv_blocks",
        "waiting",
    )
    whole = {name: columns[name].astype(np.int64) for name in integer}
    return pd.DataFrame(
        {
            "replica": whole["replica"],
            "lane": whole["lane"],
            "start_s": columns["start_s"],
            "duration_s": duration,
            "first_s": columns["first_s"],
            "slope_s": columns["slope_s"],
            **{name: whole[name] for name in integer[2:]},
            "bound_by": pd.Categorical(np.asarray(BOUNDS)[bound], categories=list(BOUNDS)),
            "power_w": np.mean([run_watts(columns, deployment, a, i) for i, a in enumerate(attributions)], axis=0),
        }
    )


def expand_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a step, from the run-compressed frame of `steps_frame`."""
    repeats = np.maximum(frame["iterations"].to_numpy(), 1)
    index = np.repeat(np.arange(len(frame)), repeats)
    step = np.arange(len(index)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    wide = frame.iloc[index].reset_index(drop=True)
    copy_s = (
        wide["duration_s"] - repeats[index] * wide["first_s"]
        - 0.5 * repeats[index] * (repeats[index] - 1) * wide["slope_s"]
    )  # fmt: skip
    wide["start_s"] += (
        np.where(step > 0, copy_s, 0.0) + step * wide["first_s"] + 0.5 * step * (step - 1) * wide["slope_s"]
    )
    wide["duration_s"] = wide["first_s"] + step * wide["slope_s"] + np.where(step == 0, copy_s, 0.0)
    wide["context_tokens"] += step * wide["decode_seqs"]
    wide["iterations"] = np.minimum(wide["iterations"], 1)
    wide["first_s"] = wide["duration_s"]
    wide["slope_s"] = 0.0
    return wide
