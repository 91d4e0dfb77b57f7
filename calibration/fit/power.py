"""Fits the power of a GPU on whole servers' mean watts; judged on models and tasks that the fit has not seen."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.fit.robust import Fitted, fit_parameters, held_out, robust_spread
from calibration.sources.power_tables import clock_tables, fitted_rows, served_tables
from hardware_models import catalog
from hardware_models.calibrated_kernel import relatives
from hardware_models.fits import REGIMES, FitFile, KernelFit
from hardware_models.power import (
    KEY,
    OPERATOR,
    PRIOR,
    START,
    Activity,
    PowerModel,
    idle_w,
    mean_parameters,
    voltage,
)
from hardware_models.provenance import Source
from hardware_models.specs import GpuSpec
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.serving.attribution import attribute
from sim.serving.deployment import Deployment, deploy
from sim.serving.energy import work
from sim.serving.record import RUN_COLUMNS
from workloads.models.counts import visible_pairs

Floats = NDArray[np.float64]

NODES = {"h100-sxm": "dgx-h100", "a100-80gb-sxm": "dgx-a100-80gb"}
ENGINES = {"ml_energy": "vllm-0.10", "splitwise": "ideal"}
SOURCES = {
    "ml_energy": "ML.ENERGY benchmark v3 (ml.energy), watts of H100s that answer GPQA with vLLM, 2025",
    "splitwise": "Splitwise profiles (github.com/Mutinifni/splitwise-sim, MIT), watts of A100s that serve BLOOM-176B",
}
CLOCKED = "; clocks: Perseus (arXiv 2312.06902)"
PROMPTS = (100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1200.0, 1600.0, 2000.0)  # lengths tried where unpublished
SERVED_PARAMETERS = ("awake_fraction", "busy_fraction", "compute_fraction", "memory_fraction")
CLOCK_PARAMETERS = ("voltage_slope", "voltage_floor")


@dataclass(frozen=True, slots=True)
class Served:
    """What GPUs did at each measured point, and the watts they drew: (points,) each."""

    activity: Activity
    predicted_s: Floats  # of the price model, where `activity` is a rate over the measured time
    decode_s: Floats  # price of a step without prompts
    seconds: Floats  # measured
    watts: Floats

    def pick(self, chosen: NDArray[np.bool_]) -> Served:
        """A subset."""
        a = self.activity
        part = Activity(*(np.asarray(x)[chosen] for x in (a.busy, a.compute, a.memory)))
        return Served(part, self.predicted_s[chosen], self.decode_s[chosen], self.seconds[chosen], self.watts[chosen])


def fit_power(data: Path, device: str, date: datetime.date) -> FitFile | None:
    """Fit a device's power; None where nobody published watts of it.

    data: folder of published tables; figures of locked clocks are in the folder `claims` beside it.
    """
    table = served_tables(data, device)
    if table.empty:
        return None
    spec = catalog.gpu(device)
    points = served(table_with_prompts(table, device), device)
    clocks = clock_tables(data.parent / "claims", device)
    seen = fitted_rows(table)
    known, unseen = points.pick(seen), points.pick(~seen)
    fitted, clocked = _fit(spec, known), _fit_clocks(spec, clocks)
    judged = predict(spec, fitted.parameters, unseen.activity)
    spread = robust_spread(np.log(unseen.watts / judged))
    origin = table["origin"].iloc[0]
    fit = KernelFit(
        key=KEY,
        parameters=fitted.parameters | clocked.parameters,
        covariance=_block(fitted.covariance, clocked.covariance),
        valid={
            name: (float(np.min(share)), float(np.max(share)))
            for name, share in (("compute", known.activity.compute), ("memory", known.activity.memory))
        },
        residual=dict.fromkeys(REGIMES, spread),
        held_out=held_out(judged, unseen.watts, np.full(len(judged), spread)),
        points=len(known.watts) + len(clocks),
        source=Source(grade="measured", text=SOURCES[origin] + (CLOCKED if len(clocks) else "")),
    )
    return FitFile(device=device, operator=OPERATOR, date=date, fit=[fit])


def errors_from_relatives(data: Path, device: str) -> Floats:
    """log(measured / predicted) of a device's published watts by its measured relatives' mean parameters: (points,).

    Empty where nobody published watts of the device, or where it has no relatives.
    """
    table, spec = served_tables(data, device), catalog.gpu(device)
    near, _ = relatives(spec, OPERATOR, KEY)
    if table.empty or not near:
        return np.empty(0)
    points = served(table_with_prompts(table, device), device)
    return np.log(points.watts / predict(spec, mean_parameters(spec), points.activity))


def table_with_prompts(table: pd.DataFrame, device: str) -> pd.DataFrame:
    """Fill in unpublished mean prompt lengths, one a task: that whose steps take as long as measured (watts are not
    looked at).
    """
    table = table.copy()
    for task in table.loc[table["prompt_tokens"].isna(), "task"].unique():
        chosen = table["task"] == task
        misses = []
        for prompt in PROMPTS:
            points = served(table[chosen].assign(prompt_tokens=prompt), device)
            misses.append(float(np.median(np.abs(np.log(points.predicted_s / points.seconds)))))
        table.loc[chosen, "prompt_tokens"] = PROMPTS[int(np.argmin(misses))]
    return table


def served(table: pd.DataFrame, device: str) -> Served:
    """Price every row of a table of whole servers (all prompt lengths known); rates are over the measured time."""
    columns: list[tuple[float, ...]] = []
    names = ["model", "origin", "ranks", "batch", "prompt_tokens", "output_tokens"]
    for model, origin, ranks, batch, prompt, output in table[names].to_numpy().tolist():
        deployment = _deployment(device, model, int(ranks), ENGINES[origin])
        runs, weights = period(batch, prompt, output, at_once=origin == "splitwise")
        stage = deployment.stages[0]
        samples = runs["chunks"] + runs["decode_seqs"]
        stage.rows.grow(int((samples + runs["prefill_tokens"]).max()), int(samples.max()))
        done = work(runs, deployment, attribute(runs, stage, first_stage=True), 0)
        parts = (done.seconds, done.busy_s, done.flop, done.read_bytes)
        columns.append((*(float(part @ weights) for part in parts), float(done.seconds[0])))
    predicted, busy, flop, moved, decode = np.array(columns).T
    seconds, spec = table["seconds"].to_numpy(float), catalog.gpu(device)
    activity = Activity(
        np.minimum(busy / seconds, 1.0),
        flop / seconds / spec.peak_flop_per_s["bf16"],
        moved / seconds / spec.memory_bandwidth_bytes_per_s,
    )
    return Served(activity, predicted, decode, seconds, table["watts"].to_numpy(float))


def period(batch: float, prompt: float, output: float, at_once: bool) -> tuple[dict[str, Floats], Floats]:
    """A step without prompts and one with, as runs of one step, and how often each happens while `batch` requests are
    served: all their prompts in one step, or one a step (more where a request ends more often than that).
    """
    chunks = float(round(batch)) if at_once else float(np.ceil(batch / output))
    mixed = batch / chunks
    rows = []
    for present in (0.0, chunks):
        row = dict.fromkeys(RUN_COLUMNS, 0.0)
        decoding = 0.0 if at_once and present else float(max(1, round(batch)))
        row |= {
            "iterations": 1.0,
            "work_steps": 1.0,
            "prefill_tokens": present * round(prompt),
            "chunks": present,
            "pairs": present * float(np.asarray(visible_pairs(prompt, 0.0))),
            "chunk_context": present * prompt,
            "decode_seqs": decoding,
            "context_tokens": decoding * (prompt + 0.5 * output),
        }
        rows.append(row)
    runs = {name: np.array([row[name] for row in rows]) for name in RUN_COLUMNS}
    return runs, np.array([output - 1.0 if at_once else output - mixed, 1.0 if at_once else mixed])


def predict(spec: GpuSpec, parameters: Mapping[str, float], activity: Activity) -> Floats:
    """Watts by parameters that need not be complete: clocks are at boost."""
    model = PowerModel({**START, **parameters}, idle_w(spec), spec.tdp_w, 0.0, "measured", "")
    return model.watts(activity)


@functools.cache
def _deployment(device: str, model: str, ranks: int, engine: str) -> Deployment:
    return deploy(
        Scenario(
            model=ModelSection(config=model),
            cluster=ClusterSection(node=NODES[device]),
            serving=ServingSection(tensor_parallel_size=ranks, engine=engine),
            workload=WorkloadSection(trace="none"),
        )
    )


def _fit(spec: GpuSpec, points: Served) -> Fitted:
    start = {name: START[name] for name in SERVED_PARAMETERS}
    return fit_parameters(lambda p: predict(spec, p, points.activity), points.watts, start, PRIOR)


def _fit_clocks(spec: GpuSpec, clocks: pd.DataFrame) -> Fitted:
    """Voltage by clock; where nobody measured it, as assumed."""
    start = {name: START[name] for name in CLOCK_PARAMETERS}
    if clocks.empty:
        return Fitted(start, np.diag([PRIOR[name] ** 2 for name in CLOCK_PARAMETERS]))
    clock = clocks["clock_hz"].to_numpy(float) / spec.boost_clock_hz
    watts = clocks["watts"].to_numpy(float)
    first = {**start, "core_w": spec.tdp_w}  # at boost, of a device that computes all the time

    def watts_at(p: Mapping[str, float]) -> Floats:
        return idle_w(spec) + p["core_w"] * clock * voltage(clock, p) ** 2

    found = fit_parameters(watts_at, watts, first, PRIOR)
    return Fitted({name: found.parameters[name] for name in CLOCK_PARAMETERS}, found.covariance[:2, :2])


def _block(first: Floats, second: Floats) -> list[list[float]]:
    """Covariance of two independent sets of parameters."""
    n = len(first)
    whole = np.zeros((n + len(second), n + len(second)))
    whole[:n, :n], whole[n:, n:] = first, second
    return [[float(value) for value in row] for row in whole]
