"""Bookkeeping: blocks, tokens, budget, and decisions that are the simulator's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import requests

from calibration.reference_server.engine import ReferenceEngine
from calibration.reference_server.executor import StepOutcome
from calibration.reference_server.seats import Seats
from policies.serving import SCHEDULERS
from sim.serving.lane import Limits
from workloads.request import RequestTable

STEP_S = 0.01


class CountingExecutor:
    """Samples a known token for each row and lets a made-up clock go on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.work = []

    def clock(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, work) -> StepOutcome:
        self.work.append(work)
        launched = self.now_s
        self.now_s += STEP_S
        return StepOutcome(work.tokens[work.sample_rows] + 1, launched, STEP_S, 0)


def engine_for(table, *, scheduler="chunked_prefill", blocks=64, block_size=4, seqs=4, budget=16):
    longest = int((table.prompt_tokens + table.output_tokens).max())
    policy = SCHEDULERS[scheduler](max_num_seqs=seqs, max_num_batched_tokens=budget)
    executor = CountingExecutor()
    seats = Seats(seats=seqs, longest=longest, blocks=blocks, block_size=block_size)
    engine = ReferenceEngine(
        policy, Limits(blocks, block_size, 0, 0.0, 0), table,
        lambda index: np.full(table.prompt_tokens[index], 1000 * index, dtype=np.int32),
        seats, executor, executor.clock, executor.sleep,
    )  # fmt: skip
    return engine, seats, executor


workloads = st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=12).map(
    lambda rows: RequestTable.build(
        source="drawn",
        arrival_s=[row[0] for row in rows],
        prompt_tokens=[row[1] for row in rows],
        output_tokens=[row[2] for row in rows],
    )
)


@settings(max_examples=40, deadline=None)
@given(table=workloads, scheduler=st.sampled_from(["chunked_prefill", "prefill_first"]), blocks=st.integers(15, 40))
def test_every_token_is_computed_once_and_every_block_comes_back(table, scheduler, blocks) -> None:
    engine, seats, executor = engine_for(table, scheduler=scheduler, blocks=blocks)
    engine.play()
    assert engine.requests.finished == len(table)
    assert seats.blocks_in_use == 0
    for index in range(len(table)):  # each token is the one before it and one more, through all preemptions
        count = table.output_tokens[index]
        assert engine.outputs[index].tolist() == list(range(1000 * index + 1, 1000 * index + 1 + count))
    recomputed = sum(engine.requests.preemptions)
    rows = sum(len(work.tokens) for work in executor.work)
    least = int(table.prompt_tokens.sum() + table.output_tokens.sum()) - len(table)  # the last token has no KV
    assert rows == least if recomputed == 0 else rows > least


@settings(max_examples=25, deadline=None)
@given(table=workloads, blocks=st.integers(15, 40))
def test_rows_of_a_step_write_to_slots_of_their_own(table, blocks) -> None:
    engine, _, executor = engine_for(table, blocks=blocks)
    engine.play()
    for work in executor.work:
        assert len(set(work.slots.tolist())) == len(work.slots)
        assert work.slots.max() < blocks * 4


def test_step_records_count_what_was_executed() -> None:
    table = RequestTable.build(source="one", arrival_s=[0.0], prompt_tokens=[20], output_tokens=[3])
    engine, _, _ = engine_for(table)
    engine.play()
    first, second, third, fourth = engine.steps
    assert (first.prefill_tokens, first.chunk_context, first.pairs) == (16, 16, 136)
    assert (second.prefill_tokens, second.chunk_context, second.pairs) == (4, 20, 4 * 16 + 10)
    assert (third.decode_seqs, third.context_tokens, fourth.context_tokens) == (1, 21, 22)
    assert fourth.kv_blocks == 0
    assert engine.requests.first_token_s[0] == pytest.approx(2 * STEP_S, abs=1e-3)


def test_after_the_budget_nobody_is_admitted_and_the_started_ones_finish() -> None:
    table = requests(60, prompt=30, output=20, span_s=1.0)
    engine, seats, _ = engine_for(table)
    engine.play(budget_s=0.3)
    started = ~np.isnan(np.frombuffer(engine.requests.first_scheduled_s))
    finished = ~np.isnan(np.frombuffer(engine.requests.finish_s))
    assert 0 < started.sum() < len(table)
    np.testing.assert_array_equal(started, finished)
    assert np.frombuffer(engine.requests.first_scheduled_s)[started].max() <= 0.3
    assert seats.blocks_in_use == 0


def test_what_outlasts_the_drain_is_cut_off_and_its_start_is_kept() -> None:
    table = requests(60, prompt=30, output=20, span_s=1.0)
    engine, seats, _ = engine_for(table)
    engine.play(budget_s=0.3, drain_s=0.02)
    log = engine.requests
    started = ~np.isnan(np.frombuffer(log.first_scheduled_s))
    assert started.sum() > log.finished
    assert seats.blocks_in_use == 0


def test_requests_longer_than_allowed_are_turned_away() -> None:
    table = RequestTable.build(source="two", arrival_s=[0.0, 0.0], prompt_tokens=[8, 200], output_tokens=[2, 2])
    engine, _, _ = engine_for(table, blocks=10)
    engine.play()
    assert engine.requests.rejected == [1]
    assert engine.requests.finished == 1
