"""Replicas of several tensor-parallel sizes in one run: which deployment is whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.serving.attribution import FIELDS, Attribution, attribute_stages, joined
from sim.serving.deployment import Deployment, Shape

Floats = NDArray[np.float64]
Runs = dict[str, Floats]


def shapes_of(deployment: Deployment, replicas: int) -> list[Shape]:
    """All of them, of `replicas` replicas in all; the deployment's own first."""
    own = deployment.others[0].first if deployment.others else replicas
    return [Shape(deployment, 0, own), *deployment.others]


def replicas_of(deployment: Deployment, own: int) -> int:
    """In all, beside so many of its own."""
    return own + sum(shape.replicas for shape in deployment.others)


def ranks_of(deployment: Deployment, replicas: int) -> NDArray[np.int64]:
    """GPUs of each replica: (replicas,)."""
    shapes = shapes_of(deployment, replicas)
    return np.repeat([shape.deployment.gpus_per_replica for shape in shapes], [shape.replicas for shape in shapes])


def gpus_used(deployment: Deployment, replicas: int) -> int:
    """That replicas hold at one time or another: other shapes have the same ones."""
    return shapes_of(deployment, replicas)[0].replicas * deployment.gpus_per_replica


def first_gpus(deployment: Deployment, replicas: int) -> NDArray[np.int64]:
    """Number of each replica's first GPU, which are filled one after another: (replicas,)."""
    shapes = shapes_of(deployment, replicas)
    return np.concatenate([np.arange(shape.replicas) * shape.deployment.gpus_per_replica for shape in shapes])


def attribute_shapes(runs: Runs, deployment: Deployment) -> list[Attribution]:
    """As `attribute_stages`, each run by the prices of its replica's shape."""
    if not deployment.others:
        return attribute_stages(runs, deployment.stages_at)
    parts, order = [], []
    for shape, chosen in _chosen(runs, deployment):
        parts.append(attribute_stages(_of(runs, chosen), shape.deployment.stages_at))
        order.append(np.flatnonzero(chosen))
    places = np.argsort(np.concatenate(order))
    return [joined(stage, places) for stage in zip(*parts, strict=True)]


def by_shape(
    runs: Runs,
    deployment: Deployment,
    attribution: Attribution,
    figure: Callable[[Runs, Deployment, Attribution], Floats],
) -> Floats:
    """A figure of each run, by the deployment of its replica: (runs,)."""
    found = np.zeros(len(runs["replica"]))
    for shape, chosen in _chosen(runs, deployment):
        part = Attribution(*(getattr(attribution, name)[..., chosen] for name in FIELDS))
        found[chosen] = figure(_of(runs, chosen), replace(shape.deployment, others=()), part)
    return found


def _chosen(runs: Runs, deployment: Deployment) -> list[tuple[Shape, NDArray[np.bool_]]]:
    shapes = shapes_of(deployment, replicas_of(deployment, deployment.others[0].first))
    replica = runs["replica"]
    return [(one, (replica >= one.first) & (replica < one.first + one.replicas)) for one in shapes]


def _of(runs: Runs, chosen: NDArray[np.bool_]) -> Runs:
    return {name: column[chosen] for name, column in runs.items()}
