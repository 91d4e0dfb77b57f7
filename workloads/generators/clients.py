"""Traffic as a sum of heterogeneous clients, few of which make most of it (ServeGen, arXiv:2505.09999).

Aggregate traffic drawn from one law misses that a bursty client shifts the length mix when it bursts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hardware_models.errors import FleetcastError
from workloads.generators import check
from workloads.generators.arrivals import Arrivals
from workloads.generators.joint import Checkerboard, draw_lengths
from workloads.generators.lengths import Lengths
from workloads.randomness import stream
from workloads.request import RequestTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client, which is the `tenant` of its requests; `tie` as in `draw_lengths`."""

    name: str
    arrivals: Arrivals
    prompt_tokens: Lengths
    output_tokens: Lengths
    tie: Checkerboard | float = 0.0
    priority: int = 0  # lower is served first

    def __post_init__(self) -> None:
        check.whole("priority", self.priority, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMix:
    """The requests of all `clients` on one clock; each client has its own streams, so adding one shifts no other."""

    clients: Sequence[Client]

    def __post_init__(self) -> None:
        names = [client.name for client in self.clients]
        if not names:
            raise FleetcastError("clients = []: give at least one client")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FleetcastError(f"clients: the name '{twice[0]}' is given twice; give each client its own")

    def generate(self, seed: int, *, duration_s: float | None = None, num_requests: int | None = None) -> RequestTable:
        """Draw the requests before `duration_s`, at most `num_requests`."""
        check.extent("clients", duration_s, num_requests)
        times = [
            client.arrivals.times(
                stream(seed, f"clients/{client.name}/arrivals"), duration_s=duration_s, num_requests=num_requests
            )
            for client in self.clients
        ]
        check.affordable(sum(map(len, times)))
        check.some(sum(map(len, times)), duration_s)
        drawn = [
            draw_lengths(seed, f"clients/{c.name}/", len(t), (c.prompt_tokens, c.output_tokens), c.tie)
            for c, t in zip(self.clients, times, strict=True)
        ]
        arrival = np.concatenate(times)
        order = np.argsort(arrival, kind="stable")[:num_requests]
        who = np.repeat(np.arange(len(times)), [len(t) for t in times])[order]
        names = [client.name for client in self.clients]
        return RequestTable.build(
            source="clients",
            arrival_s=arrival[order],
            prompt_tokens=np.concatenate([prompt for prompt, _ in drawn])[order],
            output_tokens=np.concatenate([output for _, output in drawn])[order],
            tenant=[names[i] for i in who.tolist()],
            priority=np.array([client.priority for client in self.clients])[who],
        )
