"""Each scheduler's decision, from a state made by hand."""

from collections import deque

import pytest

from policies.serving import DECODE_ONLY, SCHEDULERS, UNLIMITED, Sequence, StepView
from policies.serving.queue_order import ByPriority, FirstComeFirstServed, ShortestJobFirst
from policies.serving.reservation import buddy, reserve_max, reserve_oracle, reserve_pow2


def sequence(index: int, prompt: int, output: int = 10, priority: int = 0, **state) -> Sequence:
    return Sequence(index, float(index), prompt, output, priority, prompt, **state)


def view(waiting=(), running=(), *, partial=None, free=100, total=100, needed=0, swapped=()) -> StepView:
    queue = FirstComeFirstServed()
    for each in waiting:
        queue.push(each)
    return StepView(0.0, queue, deque(swapped), running, len(running), partial, free, total, 16, needed)


def decoding(index: int, context: int) -> Sequence:
    return sequence(index, context, generated=1, join_context=context)


def scheduler(name: str, **keys):
    return SCHEDULERS[name](**{"max_num_seqs": 4, "max_num_batched_tokens": 64, **keys})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_nothing_to_do_is_no_batch(name):
    assert scheduler(name).next_batch(view()) is None


def test_chunked_prefill_fills_the_budget_behind_the_decodes():
    a, b = sequence(5, 40), sequence(6, 90)
    batch = scheduler("chunked_prefill").next_batch(view([a, b], [decoding(0, 8), decoding(1, 8)]))
    assert batch.decode
    assert batch.chunks == [(a, 40), (b, 22)]
    assert batch.admit == 2


def test_chunked_prefill_repeats_whole_chunks_of_a_long_prompt():
    long = sequence(5, 200)
    batch = scheduler("chunked_prefill").next_batch(view([long], [decoding(0, 8)]))
    assert batch.chunks == [(long, 63)]
    assert batch.repeats == 3


def test_chunked_prefill_ends_a_started_prompt_before_it_admits():
    started, new = sequence(3, 70), sequence(4, 30)
    started.prefilled = 64
    batch = scheduler("chunked_prefill").next_batch(view([new], [], partial=started))
    assert batch.chunks == [(started, 6), (new, 30)]
    assert batch.admit == 1


def test_chunked_prefill_preempts_the_latest_and_admits_nobody_when_decodes_find_no_block():
    old, young = decoding(0, 16), decoding(1, 16)
    batch = scheduler("chunked_prefill").next_batch(view([sequence(2, 16)], [old, young], free=1, total=3, needed=2))
    assert batch.preempt == [young]
    assert batch.decode
    assert not batch.admit


def test_prefill_first_runs_prompts_alone_and_decodes_otherwise():
    waiting = sequence(5, 40)
    policy = scheduler("prefill_first")
    batch = policy.next_batch(view([waiting], [decoding(0, 8)]))
    assert batch.chunks == [(waiting, 40)]
    assert not batch.decode
    assert policy.next_batch(view([], [decoding(0, 8)])) is DECODE_ONLY


def test_prefill_first_stops_at_its_token_budget_and_its_watermark():
    a, b = sequence(5, 40), sequence(6, 40)
    policy = scheduler("prefill_first", watermark_fraction=0.05)
    assert policy.next_batch(view([a, b])).chunks == [(a, 40)]
    blocked = policy.next_batch(view([a], [decoding(0, 8)], free=7))
    assert not blocked.chunks  # three blocks are asked for, two are above the watermark of five
    assert blocked.waits_for_kv


def test_prefill_first_admits_nobody_while_a_sequence_is_swapped_out():
    out = sequence(1, 16, blocks=2)
    batch = scheduler("prefill_first", preemption_mode="swap").next_batch(view([sequence(2, 16)], [], swapped=[out]))
    assert batch.resume == 1
    assert not batch.chunks


def test_orca_mixes_whole_prompts_with_decodes_within_its_reservations():
    a, b = sequence(5, 100, 60), sequence(6, 100, 60)
    batch = scheduler("orca", reservation="oracle").next_batch(view([a, b], [decoding(0, 8)], free=15))
    assert batch.decode
    assert batch.chunks == [(a, 100)]
    assert batch.waits_for_kv


def test_static_waits_for_the_whole_batch():
    policy = scheduler("static", reservation="oracle")
    assert policy.next_batch(view([sequence(5, 16)], [decoding(0, 8)])) is DECODE_ONLY
    many = [sequence(i, 16, 16) for i in range(6)]
    assert policy.next_batch(view(many)).admit == 4


def test_sarathi_keeps_rows_at_a_multiple_of_the_tile():
    prompt = sequence(9, 600)
    policy = scheduler("sarathi", chunk_size=256, reservation="oracle")
    batch = policy.next_batch(view([prompt], [decoding(0, 8), decoding(1, 8), decoding(2, 8)]))
    assert batch.chunks == [(prompt, 253)]
    assert batch.repeats == 2
    loose = scheduler("sarathi", chunk_size=256, reservation="oracle", tile_aligned=False)
    assert loose.next_batch(view([prompt], [decoding(0, 8)])).chunks == [(prompt, 256)]


def test_a_newcomer_matters_only_where_it_could_join():
    policy = scheduler("chunked_prefill")
    open_view = view([], [decoding(0, 8)])
    assert policy.newcomer_could_join(open_view, policy.next_batch(open_view))
    full = view([], [decoding(i, 8) for i in range(4)])
    assert not policy.newcomer_could_join(full, policy.next_batch(full))
    blocked = view([sequence(9, 600)], [decoding(0, 8)], free=1)
    assert not policy.newcomer_could_join(blocked, policy.next_batch(blocked))
    shortest = scheduler("chunked_prefill", policy="sjf")
    assert shortest.newcomer_could_join(blocked, shortest.next_batch(blocked))


def test_queue_orders():
    items = [sequence(0, 50, priority=2), sequence(1, 10, priority=1), sequence(2, 30, priority=1)]
    for kind, expected in ((FirstComeFirstServed, [0, 1, 2]), (ByPriority, [1, 2, 0]), (ShortestJobFirst, [1, 2, 0])):
        queue = kind()
        for item in items:
            queue.push(item)
        assert [s.index for s in queue] == expected
        head = queue.pop()
        queue.push_back(head)
        assert [queue.pop().index for _ in items] == expected


def test_reservations():
    request = sequence(0, 100, 33)
    assert reserve_max(request, 2048) == 2048
    assert reserve_pow2(request, 2048) == 164
    assert reserve_oracle(request, 2048) == 133


def test_a_buddy_allocator_rounds_a_reservation_up_to_a_power_of_two():
    request = sequence(0, 100, 60)  # 160 tokens: ten blocks
    assert scheduler("orca", reservation="oracle").blocks_at_admission(request, 16) == 10
    assert scheduler("orca", reservation="oracle", allocator="buddy").blocks_at_admission(request, 16) == 16
    assert [buddy(n) for n in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]


def test_repeating_until_something_changes_is_unlimited():
    assert DECODE_ONLY.repeats == UNLIMITED
