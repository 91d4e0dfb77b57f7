"""Which point a worker runs next: points that share a deployment's prices go to one worker, where these are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable


class Schedule:
    """Points by group; a worker stays with its group, then takes one that nobody has, then helps the longest.

    Who helps begins at the other end, where neighbours, which may share requests, are left for it too.
    """

    def __init__(self, points: Iterable[tuple[int, int]]) -> None:
        """points: (group, index), in order."""
        self._waiting: dict[int, deque[int]] = {}
        for group, index in points:
            self._waiting.setdefault(group, deque()).append(index)
        self._mine: dict[Hashable, tuple[int, bool]] = {}  # group, and whether from its end
        self._returned: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._returned) + sum(len(waiting) for waiting in self._waiting.values())

    def __bool__(self) -> bool:
        return bool(self._returned or self._waiting)

    def next(self, worker: Hashable) -> int | None:
        """A point for a worker; None where none waits."""
        if self._returned:
            return self._returned.popleft()
        if not self._waiting:
            return None
        group, from_end = self._mine.get(worker, (-2, False))
        if group not in self._waiting:
            taken = {one for one, _ in self._mine.values()}
            free = next((one for one in self._waiting if one not in taken), None)
            group = max(self._waiting, key=lambda one: len(self._waiting[one])) if free is None else free
            from_end = free is None
            self._mine[worker] = (group, from_end)
        waiting = self._waiting[group]
        index = waiting.pop() if from_end else waiting.popleft()
        if not waiting:
            del self._waiting[group]
        return index

    def put_back(self, index: int) -> None:
        """A point whose worker was lost; it goes next."""
        self._returned.append(index)

    def forget(self, worker: Hashable) -> None:
        """A worker that is no more."""
        self._mine.pop(worker, None)
