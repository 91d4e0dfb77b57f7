"""The pool's sums are what one gets by looking at every member."""

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.serving import Sequence
from sim.serving.decode_pool import DecodePool

BLOCK, WINDOW = 4, 11


class Watched:
    """Members looked at one by one."""

    def __init__(self) -> None:
        self.context: dict[int, int] = {}
        self.left: dict[int, int] = {}

    def blocks_due(self) -> int:
        return sum(context % BLOCK == 0 for context in self.context.values())


actions = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.just("steps"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 5), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(actions)
@settings(max_examples=400, deadline=None)
def test_sums_over_members(moves):
    pool, watched, made, now = DecodePool(BLOCK, WINDOW), Watched(), 0, 0.0
    for action, a, b in moves:
        if action == "join":
            pool.join(Sequence(made, 0.0, a, b + 1, 0, a, generated=1), a)
            watched.context[made], watched.left[made] = a, b
            made += 1
        elif action == "leave" and watched.context:
            index = list(watched.context)[a % len(watched.context)]
            sequence = pool.members[index]
            assert pool.leave(sequence) == watched.context[index]
            if b:  # swapped out and back at once
                pool.join(sequence, watched.context[index])
            else:
                del watched.context[index], watched.left[index]
        elif action == "steps" and watched.context:
            steps = min(a, pool.steps_to_finish(), pool.steps_to_window())
            assert steps == min(a, *watched.left.values(), pool.steps_to_window())
            assert pool.steps_within(pool.blocks_over(steps), steps) == steps
            expected = 0
            for _ in range(steps):
                expected += watched.blocks_due()
                for index in watched.context:
                    watched.context[index] += 1
                    watched.left[index] -= 1
            assert pool.blocks_over(steps) == expected
            if expected:
                assert pool.steps_within(expected - 1, steps) < steps
            pool.advance(steps, now + 1.0, now + steps, 1.0)
            now += steps
            finished = {sequence.index: held for sequence, held in pool.pop_finished()}
            assert finished == {i: watched.context[i] for i, left in watched.left.items() if left == 0}
            for index in finished:
                del watched.context[index], watched.left[index]
        contexts = watched.context.values()
        assert pool.count == len(contexts)
        assert pool.context == sum(contexts)
        assert pool.window_context == sum(min(c, WINDOW) for c in contexts)
        assert pool.window_growth == sum(c < WINDOW for c in contexts)
        assert pool.blocks_due[pool.step % BLOCK] == watched.blocks_due()
        below = [WINDOW - c for c in contexts if c < WINDOW]
        assert pool.steps_to_window() == min(below, default=1 << 60)
