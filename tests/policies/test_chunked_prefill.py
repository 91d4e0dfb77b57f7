"""What becomes of a started prompt when decodes find no block."""

from collections import deque

from policies.serving import ChunkedPrefill, Sequence, StepView, blocks_for
from policies.serving.queue_order import FirstComeFirstServed

POLICY = ChunkedPrefill(max_num_seqs=4, max_num_batched_tokens=64)
BLOCK = 16


def sequence(index: int, prompt: int, **state) -> Sequence:
    return Sequence(index, float(index), prompt, 10, 0, prompt, **state)


def decoding(index: int, context: int) -> Sequence:
    return sequence(index, context, generated=1, join_context=context)


def starved(running: list[Sequence], partial: Sequence, free: int) -> StepView:
    """No block for the next token of every running sequence whose last block is full."""
    needed = sum(one.join_context % BLOCK == 0 for one in running)
    queue = FirstComeFirstServed([sequence(9, 16)])
    return StepView(0.0, queue, deque(), running, len(running), partial, free, 40, BLOCK, needed)


def test_a_started_prompt_that_survives_goes_on_within_what_the_victims_leave_of_the_budget():
    started = sequence(0, 200, prefilled=60, blocks=blocks_for(200, BLOCK))
    old, young = decoding(1, 32), decoding(2, 32)
    batch = POLICY.next_batch(starved([old, young], started, free=0))
    assert batch.preempt == [young]
    assert batch.chunks == [(started, 63)]  # one token of 64 is the old sequence's
    assert batch.decode
    assert not batch.admit


def test_a_started_prompt_that_is_the_victim_has_no_chunk():
    started = sequence(7, 200, prefilled=60, blocks=blocks_for(200, BLOCK))
    batch = POLICY.next_batch(starved([decoding(1, 32), decoding(2, 32)], started, free=0))
    assert batch.preempt == [started]
    assert not batch.chunks


def test_a_started_prompt_goes_on_alone_where_every_decode_is_put_off():
    started = sequence(0, 30, prefilled=20, blocks=2)
    only = decoding(1, 32)
    batch = POLICY.next_batch(starved([only], started, free=0))
    assert batch.preempt == [only]
    assert batch.chunks == [(started, 10)]
