"""The same row with more servers, or without its limit: each server keeps its load."""

from __future__ import annotations

from typing import Any

from hardware_models.errors import FleetcastError
from hardware_models.server_power import ServerPower
from sim.scenario import Scenario, WorkloadSection
from sim.section import PolicyChoice

FAR = 10.0  # times what all servers can draw at most: a limit that nothing nears


def with_servers(scenario: Scenario, servers: int) -> Scenario:
    """As many servers, replicas and requests in proportion.

    Replicas of low priority are rounded to whole ones; clients of each priority are scaled as the replicas that serve
    them, so that these keep their load exactly. Rates of generators are scaled, so that the hours of a day stay as
    they are; a trace gets a `rate_scale`. Raises FleetcastError where servers do not all hold as many replicas.
    """
    nodes, serving = scenario.cluster.nodes, scenario.serving
    if serving.replicas % nodes:
        raise FleetcastError(
            f"serving.replicas = {serving.replicas} on cluster.nodes = {nodes}: to add servers, each must hold as many"
            " replicas; give a multiple"
        )
    if servers == nodes:
        return scenario
    replicas = serving.replicas // nodes * servers
    low = 0
    if serving.low_priority_replicas:
        low = min(max(1, int(serving.low_priority_replicas * servers / nodes + 0.5)), replicas - 1)
    high_factor = (replicas - low) / (serving.replicas - serving.low_priority_replicas)
    low_factor = low / serving.low_priority_replicas if low else high_factor
    return scenario.model_copy(
        update={
            "cluster": scenario.cluster.model_copy(update={"nodes": servers}),
            "serving": serving.model_copy(update={"replicas": replicas, "low_priority_replicas": low}),
            "workload": _scaled(scenario.workload, servers / nodes, high_factor, low_factor),
        }
    )


def under_policy(scenario: Scenario, policy: PolicyChoice) -> Scenario:
    """Another policy watches the row."""
    assert scenario.power is not None
    return scenario.model_copy(update={"power": scenario.power.model_copy(update={"policy": policy})})


def unlimited(scenario: Scenario, server: ServerPower) -> Scenario:
    """The same row behind a breaker that nothing nears, watched by nobody."""
    assert scenario.power is not None
    limit_w = FAR * scenario.cluster.nodes * max(server.rated_w, server.max_w)
    changes = {"row_limit_w": limit_w, "provisioned_nodes": None, "policy": PolicyChoice(name="brake_only")}
    return scenario.model_copy(update={"power": scenario.power.model_copy(update=changes)})


def _scaled(workload: WorkloadSection, factor: float, high: float, low: float) -> WorkloadSection:
    changes: dict[str, Any] = {}
    if workload.num_requests is not None:
        changes["num_requests"] = max(1, round(workload.num_requests * factor))
    generator = workload.generator
    if generator is None:
        changes["rate_scale"] = workload.rate_scale * factor
    elif isinstance(generator.get("clients"), list):
        clients = [_busier(client, low if client.get("priority", 0) > 0 else high) for client in generator["clients"]]
        changes["generator"] = generator | {"clients": clients}
    else:
        changes["generator"] = _busier(generator, factor)
    return workload.model_copy(update=changes)


def _busier(table: dict[str, Any], factor: float) -> dict[str, Any]:
    """With the rate of its arrivals scaled."""
    arrivals = table.get("arrivals")
    if not isinstance(arrivals, dict) or "request_rate" not in arrivals:
        return table  # no such generator, as it will say itself
    rate = arrivals["request_rate"]
    scaled = [one * factor for one in rate] if isinstance(rate, list) else rate * factor
    return table | {"arrivals": arrivals | {"request_rate": scaled}}
