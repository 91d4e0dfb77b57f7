"""In which order waiting sequences are considered: first come, by priority, or shortest job first."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator

from policies.serving.view import Sequence

Key = tuple[float, float, int]


class FirstComeFirstServed(deque[Sequence]):
    """By arrival; a preempted sequence goes back to the front."""

    reorders = False  # can a newcomer overtake the head?

    push = deque.append  # a newcomer
    push_back = deque.appendleft  # a preempted sequence
    pop = deque.popleft  # the head, which a deque calls its left

    @staticmethod
    def rank(sequence: Sequence) -> Key:
        """Smallest goes first, largest is preempted first."""
        return (0.0, sequence.arrival_s, sequence.index)


class _Ranked:
    """Kept sorted by rank, largest first, so that the head is popped from the end."""

    reorders = True
    rank: Callable[[Sequence], Key]

    def __init__(self) -> None:
        self._sorted: list[Sequence] = []

    def __iter__(self) -> Iterator[Sequence]:
        return reversed(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)

    def push(self, sequence: Sequence) -> None:
        """Add a sequence at its rank."""
        rank = type(self).rank
        insort(self._sorted, sequence, key=lambda s: tuple(-x for x in rank(s)))

    push_back = push

    def pop(self) -> Sequence:
        """Take the head."""
        return self._sorted.pop()


class ByPriority(_Ranked):
    """Smallest priority number first (as in vLLM), then by arrival."""

    @staticmethod
    def rank(sequence: Sequence) -> Key:
        """Smallest goes first, largest is preempted first."""
        return (float(sequence.priority), sequence.arrival_s, sequence.index)


class ShortestJobFirst(_Ranked):
    """Fewest prompt tokens first: what a scheduler knows before the answer is written."""

    @staticmethod
    def rank(sequence: Sequence) -> Key:
        """Smallest goes first, largest is preempted first."""
        return (float(sequence.to_prefill), sequence.arrival_s, sequence.index)


AnyQueue = FirstComeFirstServed | ByPriority | ShortestJobFirst
