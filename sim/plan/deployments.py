"""Ways to serve a demand, as ladders: a node type and how replicas lie on it; a rung is so many nodes, or groups of
them.

Nodes are bought whole and every GPU of a node that a further replica fits on serves: a rung's price is that of its
nodes. A replica larger than a node takes whole nodes of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hardware_models.errors import ImpossibleError
from hardware_models.power import power_model
from hardware_models.specs import GpuSpec, NodeSpec
from sim.plan.bounds import replicas_needed
from sim.plan.frame import Proof, Trial
from sim.plan.judge import judge
from sim.plan.prices import Prices
from sim.plan.request_work import RequestWork
from sim.plan.words import verdict_words
from sim.power.start import check_stages
from sim.scenario import Scenario
from sim.scenario_errors import sentence
from workloads.request import RequestTable

STOP_AT = 2.0  # a run that misses its SLO by more than this factor is ended early: how far off it is says enough
OBJECTIVES = {"cost": "USD/h", "gpus": "GPUs", "energy": "W"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How replicas lie on a type of node."""

    node_name: str  # as a scenario has it
    node: NodeSpec
    gpu: GpuSpec
    tp: int
    pp: int
    settings: tuple[tuple[str, Any], ...] = ()  # further keys of the scenario that are set, dotted

    @property
    def nodes_a_rung(self) -> int:
        """Nodes of a replica, or 1 where a node holds replicas whole."""
        return max(1, math.ceil(self.tp * self.pp / self.node.gpus))

    @property
    def replicas_a_rung(self) -> int:
        """Replicas on them."""
        return max(1, self.node.gpus // (self.tp * self.pp))

    @property
    def name(self) -> str:
        """In tables: what differs from node to node, and what is set beside."""
        parts = [self.node.name, f"TP{self.tp}", *([f"PP{self.pp}"] if self.pp > 1 else [])]
        return " ".join([*parts, *(str(value) for _, value in self.settings)])

    def gpus(self, rung: int) -> int:
        """Bought."""
        return rung * self.nodes_a_rung * self.node.gpus

    def scenario(self, base: Scenario, rung: int) -> Scenario:
        """The base scenario on so many nodes of this kind; raises ImpossibleError where its keys contradict each
        other.
        """
        tables = base.model_dump(exclude_none=True)
        tables["cluster"] |= {"node": self.node_name, "nodes": rung * self.nodes_a_rung}
        tables["serving"] |= {
            "replicas": rung * self.replicas_a_rung,
            "tensor_parallel_size": self.tp,
            "pipeline_parallel_size": self.pp,
        }
        for key, value in self.settings:
            section, _, name = key.partition(".")
            tables[section][name] = _policy(tables[section].get(name), value) if name == "scheduler" else value
        if not self._is_of(base):
            tables["serving"].pop("num_gpu_blocks_override", None)  # measured on other hardware
        try:
            return Scenario.model_validate(tables)
        except ValidationError as error:
            raise ImpossibleError(sentence(error)) from None

    def _is_of(self, base: Scenario) -> bool:
        serving = base.serving
        same = (serving.tensor_parallel_size, serving.pipeline_parallel_size) == (self.tp, self.pp)
        return same and base.cluster.node == self.node_name


def _policy(chosen: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """The scenario's own table where it names this policy already, keys and all; else the policy with its defaults."""
    return chosen if chosen is not None and chosen.get("name") == name else {"name": name}


@dataclass
class DeploymentLadder:
    """A layout at rising numbers of nodes, for one demand."""

    layout: Layout
    base: Scenario
    requests: RequestTable
    prices: Prices
    minimize: str
    max_gpus: int

    @property
    def name(self) -> str:
        """In a table."""
        return self.layout.name

    @property
    def last(self) -> int:
        """Largest rung within max_gpus."""
        return self.max_gpus // self.layout.gpus(1)

    def size(self, rung: int) -> str:
        """In words."""
        nodes = rung * self.layout.nodes_a_rung
        return f"{nodes:,} node{'s' if nodes > 1 else ''}"

    def floor(self, rung: int) -> float:
        """USD/h or GPUs, exactly; watts at least, which a GPU draws that waits."""
        layout = self.layout
        if self.minimize == "gpus":
            return float(layout.gpus(rung))
        if self.minimize == "energy":
            model = power_model(layout.gpu)
            used = rung * layout.replicas_a_rung * layout.tp * layout.pp
            return used * model.awake_w + (layout.gpus(rung) - used) * model.idle_w
        return layout.gpus(rung) * self._price()

    def _price(self) -> float:
        return self.prices.usd_per_gpu_h(self.layout.gpu.variation_of or self.layout.gpu.name) or math.inf

    def usd_per_h(self, rung: int) -> float | None:
        """Of a rung; None: its GPU has no price."""
        price = self.prices.usd_per_gpu_h(self.layout.gpu.variation_of or self.layout.gpu.name)
        return None if price is None else price * self.layout.gpus(rung)

    def scenario(self, rung: int) -> Scenario:
        """Of a rung."""
        return self.layout.scenario(self.base, rung)

    def prove(self) -> Proof:
        """Does it fit, and how many nodes does the demand take at least?"""
        if self.last < 1:
            return Proof(
                1, f"the smallest has {self.layout.gpus(1)} GPUs, of the {self.max_gpus} allowed", impossible=True
            )
        try:
            check_stages(scenario := self.scenario(1))
            needed = replicas_needed(RequestWork(scenario, self.requests), self.base.slo)
        except ImpossibleError as error:
            return Proof(1, str(error), impossible=True)
        if math.isinf(needed.replicas):
            return Proof(1, f"proved: {needed.reason}", impossible=True)
        return Proof(math.ceil(needed.count / self.layout.replicas_a_rung), needed.reason)

    def verify(self, rung: int) -> Trial:
        """Simulate the demand on so many nodes."""
        scenario = self.scenario(rung)
        verdict = judge(scenario, self.requests, stop_at=STOP_AT)
        words = verdict_words(verdict, scenario.slo.percentile)
        value = self.floor(rung)
        if self.minimize == "energy":
            watts = verdict.summary.get("mean_power_w_per_gpu")
            value = math.inf if watts is None else watts * self.layout.gpus(rung)
        usd = self.usd_per_h(rung)
        return Trial(
            rung,
            verdict.met,
            value,
            verdict.worst,
            f"{self.size(rung)}: {words}",
            math.inf if usd is None else usd,
            verdict,
        )
