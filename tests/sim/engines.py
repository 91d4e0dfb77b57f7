"""A serving engine with made-up, simple step costs, to test the engine apart from any hardware model."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import simpy

from policies.serving import SCHEDULERS, UNLIMITED, BatchScheduler
from sim.power.pace import Pace
from sim.power.pipeline_pace import PipelinePace
from sim.result import Result
from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.section import PolicyChoice
from sim.serving.engine import Engine
from sim.serving.inbox import Inbox, RequestColumns
from sim.serving.lane import Limits
from sim.serving.pipeline import PipelineReplica
from sim.serving.prefix_cache import PrefixCache
from sim.serving.record import RequestLog, RunLog
from sim.serving.replica import Replica
from sim.serving.row_costs import FACTORS
from sim.serving.step_cost import Parts, StageCost
from workloads.request import RequestTable

ROWS = 70_000
NO_HEAD_S = [0.0] * 3000


@functools.lru_cache(maxsize=16)
def line_s(fixed_s: float, row_s: float) -> list[float]:
    """Seconds by rows; nobody changes them."""
    return [fixed_s + row_s * n for n in range(ROWS)]


class LinearRows:
    """Row costs that are a constant and a share a row."""

    def __init__(self, fixed_s: float, row_s: float) -> None:
        self.linear_s, self.head_s = line_s(fixed_s, row_s), NO_HEAD_S

    def grow(self, rows: int, samples: int) -> None:
        raise AssertionError("the table is large enough for any test")

    def by_bound(self, rows, samples):
        seconds = np.zeros((4, len(rows)))
        seconds[0] = np.asarray(self.linear_s)[rows]
        return seconds

    def prices(self, rows, samples):
        return self.by_bound(rows, samples), np.zeros((len(FACTORS), len(rows))), np.zeros(len(rows))


@dataclass
class LinearAttention:
    """launch_s + max(compute, memory), each linear in pairs and keys; decoding, a key is a pair."""

    windowed: bool
    launch_s: float
    pair_s: float
    key_s: float
    query_s: float
    key_bytes: float = 100.0

    def __post_init__(self):
        steeper = self.pair_s - self.key_s
        self.knots = [0.0, self.query_s / steeper] if steeper > 0 and self.query_s > 0 else [0.0]
        self.rows = {}

    def _bounds(self, queries, pairs, keys):
        return self.pair_s * pairs, self.key_s * keys + self.query_s * queries

    def _price(self, queries, pairs, keys, pair_growth, key_growth):
        compute, memory = self._bounds(queries, pairs, keys)
        slopes = self.pair_s * pair_growth, self.key_s * key_growth
        first, other = (0, 1) if compute > memory else (1, 0)
        closing = slopes[other] - slopes[first]
        steps = int(abs(compute - memory) / closing) + 1 if closing > 0 else UNLIMITED
        return self.launch_s + max(compute, memory), slopes[first], steps

    def _parts(self, queries, pairs, keys):
        compute, memory = self._bounds(queries, pairs, keys)
        bound = compute > memory
        return Parts(
            np.full(len(bound), self.launch_s),
            np.maximum(compute, memory),
            bound,
            np.where(bound, self.pair_s, 0.0),
            np.where(bound, 0.0, self.key_s),
            np.full(len(bound), 0.1),
        )

    def read_bytes(self, context):
        return self.key_bytes * context


class LinearDecode(LinearAttention):
    """Memory-bound up to the mean context where arithmetic takes over, if it ever does."""

    def tabulate(self, sequences):
        ends = [sequences * knot for knot in self.knots[1:]] + [1e15]
        row, start = [], 0.0
        for i, end in enumerate(ends):
            arithmetic = i == len(ends) - 1 and self.pair_s > self.key_s
            value = self.launch_s + max(self._bounds(sequences, start, start))
            row.append((start, end, value, self.pair_s if arithmetic else self.key_s))
            start = end
        self.rows[sequences] = row
        return row

    def parts(self, sequences, context):
        return self._parts(sequences, context, context)


class LinearPrefill(LinearAttention):
    def price(self, tokens, chunks, pairs, context, pair_growth, context_growth):
        return self._price(tokens, pairs, context, pair_growth, context_growth)

    def parts(self, tokens, chunks, pairs, context):
        return self._parts(tokens, pairs, context)


def stage_cost(
    *, fixed_s: float = 8e-3, row_s: float = 5e-5, window: int = 0, kv_s: float = 7e-8, pair_s: float = 2e-9,
    host_s: float = 1e-3, floor_s: float = 0.0,
) -> StageCost:  # fmt: skip
    kinds = [False, True] if window else [False]
    decode = [LinearDecode(windowed, 1e-4, 1e-9, kv_s, 1e-8) for windowed in kinds]
    prefill = [LinearPrefill(windowed, 1e-4, pair_s, kv_s, 1e-8) for windowed in kinds]
    return StageCost(LinearRows(fixed_s, row_s), decode, prefill, window, host_s, 1e-5, floor_s, floor_s)  # type: ignore[arg-type]


@dataclass
class Served:
    requests: RequestLog
    runs: RunLog
    engine: Replica | PipelineReplica
    columns: dict = field(default_factory=dict)

    def times(self) -> np.ndarray:
        """(4, requests): first scheduled, first token, finish, longest gap."""
        log = self.requests
        return np.array([log.first_scheduled_s, log.first_token_s, log.finish_s, log.max_gap_s])


def serve(
    table: RequestTable,
    scheduler: BatchScheduler | str = "chunked_prefill",
    *,
    blocks: int = 4000,
    block_size: int = 16,
    swap_blocks: int = 500,
    exact: bool = False,
    stages: int = 1,
    cost: StageCost | None = None,
    cache: Callable[[Engine], PrefixCache] | None = None,
    **keys,
) -> Served:
    if isinstance(scheduler, str):
        scheduler = SCHEDULERS[scheduler](**keys)
    cost = cost or stage_cost()
    env = simpy.Environment()
    requests, runs = RequestLog(table), RunLog()
    inbox = Inbox(RequestColumns(table), range(len(table)))
    limits = Limits(blocks, block_size, swap_blocks, 1e-5, cost.window)
    engine: Replica | PipelineReplica
    if stages == 1:
        engine = Replica(env, 0, scheduler, Pace(lambda _clock: cost), limits, inbox, runs, requests, exact)
    else:
        engine = PipelineReplica(
            env,
            0,
            scheduler,
            PipelinePace(lambda _clock: [cost] * stages),
            stages,
            lambda _rows: 1e-5,
            limits,
            inbox,
            runs,
            requests,
            exact,
            lambda: inbox.next_s,
        )
    if cache is not None:
        engine.use_cache(cache(engine))
    env.run()
    return Served(requests, runs, engine, runs.columns())


def table(arrival_s, prompt_tokens, output_tokens, **columns) -> RequestTable:
    return RequestTable.build(
        source="test", arrival_s=arrival_s, prompt_tokens=prompt_tokens, output_tokens=output_tokens, **columns
    )


def served(
    requests: RequestTable, model: str = "llama-3-8b", *, node: str = "dgx-h100", nodes: int = 1, exact: bool = False,
    scheduler: str = "chunked_prefill", router: str = "round_robin", keys: dict | None = None, **serving,
) -> Result:  # fmt: skip
    """Requests through the public way, on a deployment of a few keys."""
    scenario = Scenario(
        model=ModelSection(config=model),
        cluster=ClusterSection(node=node, nodes=nodes),
        serving=ServingSection(
            scheduler=PolicyChoice(name=scheduler, **(keys or {})), router=PolicyChoice(name=router), **serving
        ),
        workload=WorkloadSection(trace="none"),
    )
    return run(scenario, requests=requests, exact=exact)
