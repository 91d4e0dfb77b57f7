"""A serving engine with made-up, simple step costs, to test the engine apart from any hardware model."""

from dataclasses import dataclass, field

import numpy as np
import simpy

from policies.serving import SCHEDULERS, BatchScheduler
from sim.serving.engine import Limits
from sim.serving.inbox import Inbox, RequestColumns
from sim.serving.pipeline import PipelineReplica
from sim.serving.record import RequestLog, RunLog
from sim.serving.replica import Replica
from sim.serving.step_cost import AttentionCost, StageCost
from workloads.request import RequestTable


class LinearRows:
    """Row costs that are a constant and a share a row."""

    def __init__(self, fixed_s: float, row_s: float, rows: int = 70_000) -> None:
        self.linear_s = [fixed_s + row_s * n for n in range(rows)]
        self.head_s = [0.0] * 3000

    def grow(self, rows: int, samples: int) -> None:
        raise AssertionError("the table is large enough for any test")

    def by_bound(self, rows, samples):
        seconds = np.zeros((4, len(rows)))
        seconds[0] = np.asarray(self.linear_s)[rows]
        return seconds


def stage_cost(
    *, fixed_s: float = 8e-3, row_s: float = 5e-5, window: int = 0, kv_s: float = 7e-8, pair_s: float = 2e-9,
    host_s: float = 1e-3, floor_s: float = 0.0,
) -> StageCost:  # fmt: skip
    decode = [AttentionCost(False, 1e-4, 1e-9, kv_s, 1e-8)]
    prefill = [AttentionCost(False, 1e-4, pair_s, kv_s, 1e-8)]
    if window:
        decode.append(AttentionCost(True, 1e-4, 1e-9, kv_s, 1e-8))
        prefill.append(AttentionCost(True, 1e-4, pair_s, kv_s, 1e-8))
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
        engine = Replica(env, 0, scheduler, cost, limits, inbox, runs, requests, exact)
    else:
        engine = PipelineReplica(
            env,
            0,
            scheduler,
            [cost] * stages,
            lambda _rows: 1e-5,
            limits,
            inbox,
            runs,
            requests,
            exact,
            lambda: inbox.next_s,
        )
    env.run()
    return Served(requests, runs, engine, runs.columns())


def table(arrival_s, prompt_tokens, output_tokens, **columns) -> RequestTable:
    return RequestTable.build(
        source="test", arrival_s=arrival_s, prompt_tokens=prompt_tokens, output_tokens=output_tokens, **columns
    )
