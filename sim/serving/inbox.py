"""Requests on their way to one engine: known beforehand where routing asks nobody, else put in as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from policies.serving import Sequence
from workloads.request import RequestTable

NEVER = float("inf")


class RequestColumns:
    """The columns of a request table as plain lists, which Python indexes faster than arrays."""

    def __init__(self, requests: RequestTable) -> None:
        self.arrival_s: list[float] = requests.arrival_s.tolist()
        self.prompt_tokens: list[int] = requests.prompt_tokens.tolist()
        self.output_tokens: list[int] = requests.output_tokens.tolist()
        priority = requests.priority
        self.priority: list[int] = priority.tolist() if priority is not None else [0] * len(self.arrival_s)

    def sequence(self, index: int) -> Sequence:
        """A fresh sequence for a request."""
        prompt = self.prompt_tokens[index]
        return Sequence(index, self.arrival_s[index], prompt, self.output_tokens[index], self.priority[index], prompt)


class Inbox:
    """Arrivals in order; `next_s` is the first not yet taken."""

    def __init__(self, columns: RequestColumns, known: Iterable[int] = ()) -> None:
        self._columns = columns
        self._pending = deque(known)
        self.outstanding = 0  # arrived here and not finished
        self.counts_on_take = 1 if self._pending else 0  # known arrivals count when they are taken, others when put
        self.next_s = self._first_s()

    def put(self, index: int) -> None:
        """A request arrives."""
        self._pending.append(index)
        self.outstanding += 1
        self.next_s = self._first_s()

    def take(self, now_s: float) -> list[Sequence]:
        """Everything that has arrived by now."""
        pending, arrival_s, taken = self._pending, self._columns.arrival_s, []
        while pending and arrival_s[pending[0]] <= now_s:
            taken.append(self._columns.sequence(pending.popleft()))
        self.next_s = arrival_s[pending[0]] if pending else NEVER
        return taken

    def sequence(self, index: int) -> Sequence:
        """A fresh sequence for a request."""
        return self._columns.sequence(index)

    def pending(self) -> Iterator[Sequence]:
        """What has not been taken yet."""
        return map(self._columns.sequence, self._pending)

    def _first_s(self) -> float:
        return self._columns.arrival_s[self._pending[0]] if self._pending else NEVER
