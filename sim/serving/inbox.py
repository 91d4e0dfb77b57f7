"""Requests on their way to one engine: known beforehand where routing asks nobody, else put in as they arrive."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import takewhile

import numpy as np

from policies.serving import Sequence
from sim.serving.run import SLACK
from workloads.request import RequestTable

NEVER = float("inf")


class RequestColumns:
    """The columns of a request table as plain lists, which Python indexes faster than arrays."""

    def __init__(self, requests: RequestTable) -> None:
        self.arrival_s: list[float] = requests.arrival_s.tolist()
        due_s = requests.arrival_s - SLACK * np.maximum(1.0, requests.arrival_s)
        self.due_s: list[float] = due_s.tolist()  # when an arrival counts as such
        self.prompt_tokens: list[int] = requests.prompt_tokens.tolist()
        self.output_tokens: list[int] = requests.output_tokens.tolist()
        priority = requests.priority
        self.priority: list[int] = priority.tolist() if priority is not None else [0] * len(self.arrival_s)

    def sequence(self, index: int) -> Sequence:
        """A fresh sequence for a request."""
        prompt = self.prompt_tokens[index]
        return Sequence(index, self.arrival_s[index], prompt, self.output_tokens[index], self.priority[index], prompt)


class Inbox:
    """Arrivals in order; `next_s` is the first not yet taken, `due_s` when it may be."""

    def __init__(self, columns: RequestColumns, known: Iterable[int] = ()) -> None:
        self._columns = columns
        self._received = list(known)
        self._pending = deque(self._received)
        self.counts_on_take = bool(self._pending)  # the engine counts known arrivals when it takes, others as they come
        self._look_ahead()

    def put(self, index: int) -> None:
        """A request arrives."""
        self._received.append(index)
        self._pending.append(index)
        self._look_ahead()

    def take(self, now_s: float) -> list[Sequence]:
        """Everything that is due by now."""
        pending, due_s, taken = self._pending, self._columns.due_s, []
        while pending and due_s[pending[0]] <= now_s:
            taken.append(self._columns.sequence(pending.popleft()))
        self._look_ahead()
        return taken

    def sequence(self, index: int) -> Sequence:
        """A fresh sequence for a request."""
        return self._columns.sequence(index)

    def came(self, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Arrivals of a span of time, taken or not: when, and tokens of the prompt."""
        arrival_s, prompts = self._columns.arrival_s, self._columns.prompt_tokens
        first, last = (bisect_right(self._received, time_s, key=arrival_s.__getitem__) for time_s in (after_s, until_s))
        return [(arrival_s[index], prompts[index]) for index in self._received[first:last]]

    def untaken(self, now_s: float) -> Iterator[Sequence]:
        """Arrivals that the engine has not looked at yet."""
        return map(
            self._columns.sequence, takewhile(lambda index: self._columns.arrival_s[index] <= now_s, self._pending)
        )

    def _look_ahead(self) -> None:
        if self._pending:
            first = self._pending[0]
            self.next_s, self.due_s = self._columns.arrival_s[first], self._columns.due_s[first]
        else:
            self.next_s = self.due_s = NEVER
