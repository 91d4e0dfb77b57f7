"""The decoding sequences of one engine as sums, so that many steps cost no more than one.

A sequence is touched when it joins, finishes or is preempted; in between the pool knows how many sequences there are,
how much context they hold together, at which step the next one finishes, and at which steps they need new KV blocks.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import heappop, heappush

from policies.serving import UNLIMITED, Sequence


class DecodePool:
    """Sequences that gain one token a step, all together."""

    __slots__ = (
        "_finish", "_gap_s", "_gap_step", "_joiners", "_last_end_s", "_saturation", "block_size", "blocks_due",
        "context",
        "count", "members", "step", "window", "window_context", "window_growth",
    )  # fmt: skip

    def __init__(self, block_size: int, window: int = 0) -> None:
        self.block_size = block_size
        self.window = window  # tokens of a sliding attention window; 0: the model has none
        self.step = 0
        self.count = 0
        self.context = 0  # KV tokens over all members
        self.members: dict[int, Sequence] = {}  # by index, oldest admission first
        self.blocks_due = [0] * block_size  # [step % block_size]: members that need a new block at such a step
        self.window_context = 0  # KV tokens over all members, each capped at the window
        self.window_growth = 0  # members still below the window: windowed tokens gained in a step
        self._saturation: list[tuple[int, int]] = []  # (step at which a member reaches it, its index); may be stale
        self._finish: list[tuple[int, int]] = []  # (step after which a member is done, its index)
        self._joiners: list[Sequence] = []  # members that have not decoded a token yet
        self._last_end_s = 0.0
        self._gap_step: list[int] = []  # gaps between tokens, as a stack of falling maxima: at step ...
        self._gap_s: list[float] = []  # ... of so many seconds

    # -- membership ------------------------------------------------------------------------------------------------

    def join(self, sequence: Sequence, context: int) -> None:
        """Add a sequence that holds `context` KV tokens and has had `sequence.generated` tokens out."""
        step, index = self.step, sequence.index
        sequence.join_step, sequence.join_context = step, context
        self.members[index] = sequence
        self.count += 1
        self.context += context
        self.blocks_due[(step - context) % self.block_size] += 1
        heappush(self._finish, (step + sequence.output_tokens - sequence.generated, index))
        self._joiners.append(sequence)
        if self.window:
            self.window_context += min(context, self.window)
            if context < self.window:
                self.window_growth += 1
                heappush(self._saturation, (step + self.window - context, index))

    def leave(self, sequence: Sequence) -> int:
        """Take a member out before its time; returns the KV tokens it held."""
        finish = sequence.join_step + sequence.output_tokens - sequence.generated
        self._finish = [entry for entry in self._finish if entry != (finish, sequence.index)]
        self._finish.sort()
        if sequence in self._joiners:
            self._joiners.remove(sequence)
        held = self._forget(sequence)
        if self.step > sequence.join_step:
            sequence.generated += self.step - sequence.join_step
            sequence.last_token_s = self._last_end_s
        return held

    def pop_finished(self) -> list[tuple[Sequence, int]]:
        """Members that have all their tokens, with the KV tokens each held."""
        done: list[tuple[Sequence, int]] = []
        finish, step = self._finish, self.step
        while finish and finish[0][0] <= step:
            sequence = self.members[heappop(finish)[1]]
            done.append((sequence, self._forget(sequence)))
        return done

    def _forget(self, sequence: Sequence) -> int:
        held = sequence.join_context + self.step - sequence.join_step
        del self.members[sequence.index]
        self.count -= 1
        self.context -= held
        self.blocks_due[(sequence.join_step - sequence.join_context) % self.block_size] -= 1
        if self.window:
            self.window_context -= min(held, self.window)
            if held < self.window:
                self.window_growth -= 1  # its entry among the saturations is stale now
        if self._gap_step:
            first = sequence.join_step + 2  # its first gap was noted when it joined the steps
            at = bisect_left(self._gap_step, first)
            if at < len(self._gap_s) and self._gap_s[at] > sequence.max_gap_s:
                sequence.max_gap_s = self._gap_s[at]
        return held

    # -- looking ahead ---------------------------------------------------------------------------------------------

    def steps_to_finish(self) -> int:
        """Steps until the next member is done."""
        return self._finish[0][0] - self.step

    def steps_to_window(self) -> int:
        """Steps until the next member's context reaches the window; the cost's slope changes there."""
        while self._saturation and not self._saturates(*self._saturation[0]):
            heappop(self._saturation)
        return self._saturation[0][0] - self.step if self._saturation else UNLIMITED

    def _saturates(self, step: int, index: int) -> bool:
        """Is this still a member's step, or of one that has left?"""
        sequence = self.members.get(index)
        return sequence is not None and sequence.join_step + self.window - sequence.join_context == step

    def blocks_over(self, steps: int) -> int:
        """New KV blocks that the next `steps` steps take."""
        size = self.block_size
        if steps == 1:
            return self.blocks_due[self.step % size]
        whole, rest = divmod(steps, size)
        total = whole * self.count
        if rest:
            due, at = self.blocks_due, self.step % size
            end = at + rest
            total += sum(due[at:end]) if end <= size else sum(due[at:]) + sum(due[: end - size])
        return total

    def steps_within(self, free_blocks: int, steps: int) -> int:
        """The most steps, up to `steps`, whose new blocks fit in `free_blocks`."""
        if steps * self.count <= free_blocks * self.block_size - self.count * self.block_size:
            return steps  # a whole round of new blocks to spare
        if self.blocks_over(steps) <= free_blocks:
            return steps
        whole = free_blocks // self.count
        done, left = whole * self.block_size, free_blocks - whole * self.count
        while True:  # fewer than block_size turns: a whole round takes `count` blocks, more than are left
            left -= self.blocks_due[(self.step + done) % self.block_size]
            if left < 0:
                return done
            done += 1

    # -- going ahead -----------------------------------------------------------------------------------------------

    def advance(
        self, steps: int, first_end_s: float, last_end_s: float, last_step_s: float
    ) -> tuple[float, int, list[Sequence]]:
        """Let `steps` steps pass, the first ending at first_end_s, the last, which took last_step_s, at last_end_s.

        Step times within a run never fall, so its longest gaps between tokens are the first (which may hold other
        work before it) and the last. Returns the first gap, how many members it concerns, and the members for whom it
        was the first token after their prompt's: their gap began at their own last_token_s.
        """
        joiners = self._joiners
        if joiners:
            self._joiners = []
            for sequence in joiners:
                gap = first_end_s - sequence.last_token_s
                sequence.max_gap_s = max(sequence.max_gap_s, gap)
        gap = first_end_s - self._last_end_s
        step = self.step
        values, at = self._gap_s, self._gap_step
        while values and values[-1] <= gap:
            values.pop()
            at.pop()
        values.append(gap)
        at.append(step + 1)
        if steps > 1:
            while values and values[-1] <= last_step_s:
                values.pop()
                at.pop()
            values.append(last_step_s)
            at.append(step + steps)
        self._last_end_s = last_end_s
        self.step = step + steps
        self.context += steps * self.count
        if self.window:
            self.window_context += steps * self.window_growth
            while self._saturation and self._saturation[0][0] <= self.step:
                entry = heappop(self._saturation)
                if entry not in self._saturation[:1]:  # twice where a member left and came back in one step
                    self.window_growth -= self._saturates(*entry)
        return gap, self.count - len(joiners), joiners
