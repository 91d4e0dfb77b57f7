"""Which replicas a request may go to: those kept for low priority, or the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware_models.errors import FleetcastError
from policies.serving import ReplicaView, Router
from workloads.request import RequestTable


class Placement:
    """A router's choice, within the replicas that a request's priority opens to it."""

    def __init__(self, requests: RequestTable, router: Router, replicas: int, low: int) -> None:
        self._router = router
        self._sessions = [-1] * len(requests) if requests.session is None else requests.session.tolist()
        self._low: list[bool] = [False] * len(requests) if not low else _low_priority(requests)
        self._members = (range(replicas - low), range(replicas - low, replicas))
        self._routed = [0, 0]

    def replica(self, index: int, replicas: Sequence[ReplicaView], now_s: float, random: np.random.Generator) -> int:
        """Of a request, at its arrival; ask in order of arrival."""
        which = self._low[index]
        members, order = self._members[which], self._routed[which]
        self._routed[which] += 1
        seen = replicas[members.start : members.stop]
        return members.start + self._router.route(order, self._sessions[index], seen, now_s, random)


def _low_priority(requests: RequestTable) -> list[bool]:
    low = np.zeros(len(requests), bool) if requests.priority is None else requests.priority > 0
    if low.all() or not low.any():
        which = "every request has" if low.all() else "no request has"
        raise FleetcastError(
            f"serving.low_priority_replicas: {which} a priority above 0 (low), so some replicas would idle; give the"
            " workload's clients, or the trace's rows, priorities 0 and 1, or leave the key out"
        )
    return list(low.tolist())
