"""Classes of the servers in a row, whom a shared budget takes watts from in turn, and what each of them draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
TRAINING = "training"


def server_classes(high: Counts, low: Counts, servers: int, trained: int) -> dict[str, Floats]:
    """Share of each server of a row that is a class's, by its replicas: (servers,) each; they sum to 1.

    high, low: server of each replica. servers: of those that serve, behind which the `trained` ones come.
    """
    counts = {name: np.bincount(of, minlength=servers).astype(float) for name, of in (("high", high), ("low", low))}
    replicas = np.maximum(counts["high"] + counts["low"], 1.0)
    found = {name: np.append(count / replicas, np.zeros(trained)) for name, count in counts.items()}
    found[TRAINING] = np.repeat([0.0, 1.0], [servers, trained])
    found["unused"] = np.asarray(1.0 - np.sum(list(found.values()), axis=0))
    return {name: share for name, share in found.items() if share.any()}


def class_watts(server_w: Sequence[Floats], classes: Mapping[str, Floats]) -> dict[str, Floats]:
    """Of each class at each reading: (readings,). server_w: of each server at each.

    Of a server whose replicas are of both priorities, each has its share of them.
    """
    watts = np.array(server_w)
    return {name: np.asarray(watts @ share) for name, share in classes.items()}
