"""The space that a plan searches: node types x parallelism x schedulers x number formats x token budgets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from hardware_models import catalog
from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.fits import FOLDER
from hardware_models.specs import NodeSpec
from policies.serving import SCHEDULERS
from sim.plan.deployments import Layout
from sim.plan.prices import Prices
from sim.scenario import Scenario

TENSOR_PARALLEL = (1, 2, 4, 8)
PIPELINE_PARALLEL = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be chosen; None: the default, or as the scenario has it."""

    nodes: tuple[str, ...] | None = None
    tensor_parallel_sizes: tuple[int, ...] | None = None
    pipeline_parallel_sizes: tuple[int, ...] | None = None
    schedulers: tuple[str, ...] | None = None
    weight_dtypes: tuple[str, ...] | None = None
    max_num_batched_tokens: tuple[int, ...] | None = None
    max_gpus: int = 512

    def __post_init__(self) -> None:
        for name in self.schedulers or ():
            if name not in SCHEDULERS:
                raise UnknownNameError("--schedulers", name, SCHEDULERS)
        for name in self.weight_dtypes or ():
            if name not in BYTES_PER_ELEMENT:
                raise UnknownNameError("--weight-dtypes", name, BYTES_PER_ELEMENT)
        for key in ("tensor_parallel_sizes", "pipeline_parallel_sizes", "max_num_batched_tokens"):
            for value in getattr(self, key) or ():
                if value < 1:
                    raise FleetcastError(f"{key} = {value}: give whole numbers of at least 1")
        if not 1 <= self.max_gpus <= 100_000:
            raise FleetcastError(f"--max-gpus {self.max_gpus}: give 1 to 100,000")

    def layouts(self, scenario: Scenario, prices: Prices, *, priced: bool) -> tuple[list[Layout], list[str]]:
        """Every combination, in a fixed order, and notes on what was left out.

        priced: nodes without a price are left out, for they cannot be ranked. Raises FleetcastError for unknown names.
        """
        names, notes = self.nodes, []
        if names is None:
            names = default_nodes(scenario)
        elif not names:
            raise FleetcastError("--nodes: names none; give at least one")
        found: list[Layout] = []
        dear: list[str] = []
        for name in dict.fromkeys(names):
            node = catalog.node(name)
            gpu = catalog.gpu(node.gpu)
            if priced and prices.usd_per_gpu_h(gpu.variation_of or gpu.name) is None:
                dear.append(f"{node.name} ({gpu.name})")
                continue
            for tp, pp in itertools.product(self._tps(node), self.pipeline_parallel_sizes or PIPELINE_PARALLEL):
                found += [Layout(name, node, gpu, tp, pp, keys) for keys in self._settings()]
        if dear:
            notes.append(
                f"left out, having no price in {prices.gpus.name}: {', '.join(dear)}; give one with --prices FILE.toml,"
                " or --minimize gpus"
            )
        return found, notes

    def _tps(self, node: NodeSpec) -> tuple[int, ...]:
        if self.tensor_parallel_sizes is not None:
            return self.tensor_parallel_sizes
        return tuple(tp for tp in TENSOR_PARALLEL if tp <= max(node.gpus, node.scale_up_group))

    def _settings(self) -> list[tuple[tuple[str, Any], ...]]:
        """Combinations of what is set beside the hardware; an option with one value is set, and not named."""
        options: list[tuple[str, tuple[Any, ...] | None]] = [
            ("serving.scheduler", self.schedulers),
            ("model.weight_dtype", self.weight_dtypes),
            ("serving.max_num_batched_tokens", self.max_num_batched_tokens),
        ]
        given = [[(key, value) for value in dict.fromkeys(values)] for key, values in options if values]
        return list(itertools.product(*given))


def default_nodes(scenario: Scenario) -> tuple[str, ...]:
    """The scenario's own node, and one of the catalog for each GPU and number of GPUs in a node, where kernels of that
    GPU's architecture were measured.
    """
    measured = {
        catalog.gpu(folder.name).architecture for folder in FOLDER.iterdir() if (folder / "gemm.toml").is_file()
    }
    chosen: dict[tuple[str, int], str] = {}
    own = scenario.cluster.node
    for name in (own, *catalog.names("nodes")):
        node = catalog.node(name)
        if name == own or catalog.gpu(node.gpu).architecture in measured:
            chosen.setdefault((node.gpu, node.gpus), name)
    return tuple(chosen.values())
