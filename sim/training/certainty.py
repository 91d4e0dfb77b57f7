"""How sure the figures of a training step are: what each factor moves, 90 % intervals, grades of what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hardware_models.device import Device
from hardware_models.intervals import NORMAL_90
from hardware_models.ops import AttentionTraining, Elementwise, Gemm
from hardware_models.provenance import worst_grade
from sim.training.pricing import FACTORS, NOTHING, ROUTING, SOFTWARE, Spent
from sim.training.shared_errors import calibrations
from sim.training.simulate import TrainingRun
from sim.training.uneven_routing import routing_unsure_s


def certainty(
    run: TrainingRun, summary: dict[str, Any], more_grades: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Entries of a summary from "interval_90" to "grade". more_grades: of what this kind of step rests on besides."""
    found = grades(run) | dict(more_grades or {})
    return {
        "interval_90": intervals(summary, step_interval(run, run.step_s)),
        "unsure": dict(zip(FACTORS, unsure_s(run), strict=True)),
        "calibrations": calibrations(run),
        "grades": found,
        "grade": worst_grade(found.values()),
    }


def spent_on(run: TrainingRun, device: int) -> Spent:
    """On all micro-batches by one stage's rank."""
    deployment, total = run.deployment, NOTHING
    if run.clocks is not None:
        return run.clocks.spent_on(deployment, device)
    for stage in deployment.schedule.stages_on(device, deployment.layout.pp):
        work = deployment.stages[stage]
        total = total.plus(work.forward.plus(work.backward).times(deployment.micro_batches_on(device, stage)))
    return total


def unsure_s(run: TrainingRun) -> list[float]:
    """Seconds of the step that one standard deviation of each factor moves, along the busiest stage."""
    deployment = run.deployment
    device = max(range(deployment.layout.pp), key=lambda one: spent_on(run, one).seconds)
    spent = spent_on(run, device)
    stretch = (run.step_s / spent.seconds) if spent.seconds else 1.0
    unsure = [seconds * min(stretch, 2.0) for seconds in spent.unsure_s]
    matrix = spent.compute_s * deployment.framework.matrix_sigma
    unsure[0] = float(np.hypot(unsure[0], matrix))
    exchanges = run.exchanges.unsure_s(device)
    unsure[3] += exchanges
    unsure[SOFTWARE] += deployment.framework.host_s_per_step * deployment.framework.host_sigma
    unsure[ROUTING] = routing_unsure_s(deployment)
    return unsure


def step_interval(run: TrainingRun, step_s: float) -> list[float]:
    """The central 90 % of the step: factors err independently, each alike on all its operators."""
    sigma = float(np.sqrt(np.sum(np.square(unsure_s(run))))) / step_s
    low, high = step_s * np.exp(-NORMAL_90 * sigma), step_s * np.exp(NORMAL_90 * sigma)
    return [float(low), float(high)]


def intervals(summary: dict[str, Any], bars: list[float]) -> dict[str, list[float]]:
    """[low, high] of what follows from the step's own: rates fall as it grows, costs grow with it."""
    step_s = summary["step_s"]
    low, high = (end / step_s for end in bars)
    rates = ("tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s", "model_flop_per_s_per_gpu", "mfu", "hfu")
    found = {"step_s": bars} | {key: [summary[key] / high, summary[key] / low] for key in rates}
    cost = summary["usd_per_billion_tokens"]
    return found if cost is None else found | {"usd_per_billion_tokens": [cost * low, cost * high]}


def grades(run: TrainingRun) -> dict[str, str]:
    """How well each kind of input is known: the worst of what a step uses of it."""
    deployment = run.deployment
    device, dtype = Device(deployment.gpu), deployment.cut.dtype
    products = dtype if deployment.cut.fp8 is None else "fp8"
    ops: list[Any] = [
        Gemm(m=1024.0, n=1024.0, k=1024.0, dtype=products, weight_dtype=products),
        Elementwise(elements=1e6, reads=1, writes=1, dtype=dtype, streaming=True),
    ]
    if deployment.cut.attention != "standard":
        ops.append(
            AttentionTraining(
                batch=1, queries=1024, keys=1024, heads=8, kv_heads=8, qk_dim=128, v_dim=128, dtype=dtype,
                implementation=deployment.cut.attention,
            )
        )  # fmt: skip
    grades = {"operators": worst_grade(device.kernel(op).grade for op in ops)}
    experts = deployment.pricer.prices.expert_links
    fabrics = (
        deployment.tensor_fabric,
        deployment.data_fabric,
        deployment.pipeline_fabric,
        None if experts is None else experts.fabric,
    )
    if links := [one.source.grade for one in fabrics if one is not None]:
        grades["links"] = worst_grade(links)
    grades["software"] = deployment.framework.source["default"].grade
    return grades
