"""The engine itself: one event for many steps gives what one event a step gives, and nothing is lost or made."""

import numpy as np
import pytest
from engines import LinearRows, serve, stage_cost, table
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.serving import SCHEDULERS as SCHEDULER_TYPES
from policies.serving import blocks_for
from sim.serving.step_cost import StageCost

SCHEDULERS = [
    ("chunked_prefill", {}),
    ("chunked_prefill", {"policy": "priority"}),
    ("chunked_prefill", {"policy": "sjf"}),
    ("prefill_first", {}),
    ("prefill_first", {"preemption_mode": "swap"}),
    ("orca", {"reservation": "oracle"}),
    ("orca", {"reservation": "pow2", "max_model_len": 2000}),
    ("static", {"reservation": "oracle"}),
    ("sarathi", {"reservation": "oracle", "chunk_size": 128}),
]


def flat_cost(step_s: float) -> StageCost:
    """Every step takes as long."""
    return StageCost(LinearRows(step_s, 0.0), [], [], 0, 0.0, 0.0, 0.0, 0.0)  # type: ignore[arg-type]


@st.composite
def workloads(draw):
    """Up to 24 requests with gaps from simultaneous to idle, short and long."""
    count = draw(st.integers(1, 24))
    gaps = draw(st.lists(st.sampled_from([*[0.0, 0.013, 0.21] * 2, 0.4, 3.7]), min_size=count, max_size=count))
    lengths = st.lists(st.integers(1, 300), min_size=count, max_size=count)
    answers = st.lists(st.integers(1, 120), min_size=count, max_size=count)
    priority = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return table(np.cumsum(gaps), draw(lengths), draw(answers), priority=priority)


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(("name", "keys"), SCHEDULERS)
@given(requests=workloads(), blocks=st.sampled_from([27, 50, 4000]), window=st.sampled_from([0, 100]))
@settings(max_examples=25, deadline=None)
def test_runs_give_the_times_of_single_steps(name, keys, stages, requests, blocks, window):
    settings_ = {"max_num_seqs": 16, "max_num_batched_tokens": 256, **keys}
    cost = stage_cost(window=window)
    fast = serve(requests, name, blocks=blocks, stages=stages, cost=cost, **settings_)
    slow = serve(requests, name, blocks=blocks, stages=stages, cost=cost, exact=True, **settings_)
    a, b = fast.times(), slow.times()
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1.0), initial=0.0) <= 1e-9
    assert fast.engine.kv_queue_s == pytest.approx(slow.engine.kv_queue_s, rel=1e-9, abs=1e-9)
    assert fast.runs.joiner_waits_s == pytest.approx(slow.runs.joiner_waits_s, rel=1e-9, abs=1e-9)
    assert list(fast.requests.preemptions) == list(slow.requests.preemptions)
    assert fast.columns["iterations"].sum() == slow.columns["iterations"].sum()


@pytest.mark.parametrize("first_s", [0.1, 0.007, 1e-3 / 3])
@pytest.mark.parametrize("offset_s", [0.0, 1 / 3, 4321.0])
def test_an_arrival_at_the_end_of_a_step_joins_the_next_one(first_s, offset_s):
    # one at a time: whoever arrives when the one before it ends has not waited
    cost = flat_cost(first_s)
    for steps in range(2, 60):
        ends_s = [offset_s + first_s * steps, offset_s + sum([first_s] * steps)]
        for arrival_s in (*ends_s, *np.nextafter(ends_s, 0.0), *np.nextafter(ends_s, np.inf)):
            requests = table([offset_s, arrival_s], [1, 1], [100, 5])
            for exact in (False, True):
                served = serve(requests, cost=cost, max_num_seqs=4, max_num_batched_tokens=64, exact=exact)
                queued_s, first_token_s = served.times()[:2, 1] - arrival_s
                assert 0.0 <= queued_s < 1e-11 * arrival_s + 1e-12
                assert first_token_s == pytest.approx(first_s, abs=1e-11 * arrival_s)


def test_whether_a_newcomer_could_join_is_asked_of_the_queue_without_the_admitted():
    admits = []

    class Asked(SCHEDULER_TYPES["sarathi"]):
        def newcomer_could_join(self, view, batch):
            admits.append(batch.admit)
            return super().newcomer_could_join(view, batch)

    scheduler = Asked(max_num_seqs=4, reservation="oracle", chunk_size=64)
    serve(table([0.0, 0.001, 0.002], [512, 400, 20], [20, 20, 20]), scheduler, cost=flat_cost(0.01))
    assert admits
    assert not any(admits)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("name", "keys"), SCHEDULERS)
@given(requests=workloads(), blocks=st.sampled_from([27, 4000]))
@settings(max_examples=15, deadline=None)
def test_tokens_blocks_and_requests_are_conserved(name, keys, stages, requests, blocks):
    served = serve(requests, name, blocks=blocks, stages=stages, max_num_seqs=16, max_num_batched_tokens=256, **keys)
    log, runs = served.requests, served.columns
    assert log.finished + len(log.rejected) == len(requests)
    assert served.engine.blocks.free == blocks
    assert served.engine.blocks.least_free >= 0
    assert served.engine.swap_blocks_free == 500
    assert served.engine.queued_blocks == served.engine.outstanding == 0
    done = ~np.isnan(served.times()[2])
    prompts = requests.prompt_tokens[done].sum()
    answers = requests.output_tokens[done].sum()
    prefilled = (runs["prefill_tokens"] * runs["iterations"]).sum()
    decoded = (runs["decode_seqs"] * runs["iterations"]).sum()
    recomputed = prefilled - prompts
    assert recomputed >= 0
    if sum(log.preemptions) == 0:
        assert recomputed == 0
        assert decoded + done.sum() == answers  # the first token of each answer comes out of its prompt
    else:
        assert decoded <= answers - done.sum()
    first, finish = served.times()[1], served.times()[2]
    assert (first[done] >= requests.arrival_s[done]).all()
    assert (finish[done] >= first[done]).all()


def test_the_pooled_gaps_are_all_gaps_between_tokens():
    from sim.serving.token_gaps import token_gaps

    rng = np.random.default_rng(3)
    requests = table(np.sort(rng.uniform(0, 20, 200)), rng.integers(1, 800, 200), rng.integers(1, 200, 200))
    for name in ("chunked_prefill", "prefill_first"):
        served = serve(requests, name, max_num_seqs=32, max_num_batched_tokens=512, blocks=1200)
        gaps = token_gaps(served.columns, np.frombuffer(served.runs.joiner_gaps))
        first, finish = served.times()[1:3]
        assert gaps.tokens == (requests.output_tokens - 1).sum()
        assert gaps.total_s == pytest.approx((finish - first).sum(), rel=1e-9)
        assert gaps.longest_s == pytest.approx(np.nanmax(served.times()[3]), rel=1e-9)
        every = np.repeat(*(part.astype(kind) for part, kind in zip(gaps.each(), (float, int), strict=True)))
        assert gaps.std_s == pytest.approx(every.std(), rel=1e-9)
        ranked = np.percentile(every, percents := [0.5, 50, 90, 95, 99, 99.9, 100], method="inverted_cdf")
        assert gaps.percentiles(np.array(percents)).tolist() == ranked.tolist()


def test_gaps_that_are_all_equal_do_not_spread_below_zero():
    from sim.serving.token_gaps import TokenGaps

    for base_s in np.linspace(0.01, 0.02, 40):
        one = TokenGaps(*(np.array([value]) for value in (base_s, 1e-3 / 3.0, 1.0, 7.0)))
        assert one.std_s == pytest.approx(0.0, abs=1e-12)


def test_a_lone_request_takes_one_prefill_and_its_decode_steps():
    served = serve(table([0.0], [100], [10]))
    assert served.columns["iterations"].tolist() == [1, 9]
    assert served.columns["prefill_tokens"].tolist() == [100, 0]
    assert served.columns["context_tokens"].tolist()[1] == 101


def test_a_one_token_answer_ends_with_its_prompt():
    served = serve(table([0.0], [100], [1]))
    assert served.columns["iterations"].tolist() == [1]
    assert served.times()[1, 0] == served.times()[2, 0]
    assert np.isnan(served.times()[3, 0])


def test_simultaneous_arrivals_share_the_first_batch():
    served = serve(table([1.0, 1.0, 1.0], [10, 20, 30], [5, 5, 5]))
    assert served.columns["chunks"][0] == 3
    assert served.columns["start_s"][0] == 1.0


def test_a_prompt_longer_than_the_budget_is_cut_or_runs_alone():
    chunked = serve(table([0.0], [1000], [2]), max_num_seqs=8, max_num_batched_tokens=300)
    assert chunked.columns["prefill_tokens"].tolist()[:2] == [300, 100]
    assert chunked.columns["iterations"].tolist()[:2] == [3, 1]
    whole = serve(table([0.0, 0.0], [1000, 10], [2, 2]), "prefill_first", max_num_batched_tokens=300)
    assert whole.columns["prefill_tokens"].tolist()[:2] == [1000, 10]


def test_an_answer_that_fills_the_cache_exactly_is_served_and_one_token_more_is_rejected():
    tokens = 10 * 16  # ten blocks; the last token's KV is never stored
    exact_fit = serve(table([0.0], [100], [tokens - 100 + 1]), blocks=10)
    assert exact_fit.requests.finished == 1
    assert exact_fit.engine.blocks.least_free == 0
    beyond = serve(table([0.0], [100], [tokens - 100 + 2]), blocks=10)
    assert beyond.requests.rejected == [0]


def test_the_latest_sequence_is_preempted_and_recomputed():
    requests = table([0.0, 0.1], [64, 64], [100, 100])
    served = serve(requests, blocks=14, max_num_seqs=4)
    assert served.requests.preemptions[0] == 0
    assert served.requests.preemptions[1] >= 1
    assert (served.columns["prefill_tokens"] * served.columns["iterations"]).sum() > 128


def test_static_batches_keep_finished_rows_until_the_last_ends():
    requests = table([0.0, 0.0], [64, 64], [5, 50])
    served = serve(requests, "static", reservation="oracle")
    assert served.columns["padding_rows"].tolist() == [0, 0, 1]
    late = serve(table([0.0, 0.001], [64, 64], [50, 5]), "static", reservation="oracle")
    assert late.times()[0, 1] == pytest.approx(late.times()[2, 0])  # starts when the first batch is over


def test_orca_max_reserves_what_nobody_uses():
    requests = table([0.0] * 4, [64] * 4, [50] * 4)
    free = blocks_for(64 + 50, 16) * 4
    oracle = serve(requests, "orca", reservation="oracle", blocks=free)
    longest = serve(requests, "orca", reservation="max", max_model_len=256, blocks=free)
    assert oracle.columns["chunks"][0] == 4
    assert longest.columns["chunks"][0] == 2


def test_shortest_job_first_overtakes():
    requests = table([0.0, 0.001, 0.002], [512, 400, 20], [2, 2, 2])
    fcfs = serve(requests, max_num_batched_tokens=256, max_num_seqs=8)
    sjf = serve(requests, max_num_batched_tokens=256, max_num_seqs=8, policy="sjf")
    assert fcfs.times()[1, 1] <= fcfs.times()[1, 2]
    assert sjf.times()[1, 2] < sjf.times()[1, 1]


def test_more_stages_in_flight_overlap():
    rng = np.random.default_rng(0)
    requests = table(np.zeros(64), rng.integers(100, 400, 64), np.full(64, 50))
    alone = serve(requests, stages=1, max_num_seqs=64)
    piped = serve(requests, stages=4, max_num_seqs=16, cost=stage_cost(fixed_s=2e-3, row_s=1.25e-5, kv_s=2e-8))
    assert np.nanmax(piped.times()[2]) < 4 * np.nanmax(alone.times()[2])
