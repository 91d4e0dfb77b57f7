"""Which pages of KV two requests have in common: a page is a stretch of tokens with all that comes before it."""

from __future__ import annotations

from hardware_models.errors import ImpossibleError
from workloads.request import RequestTable


class PageNames:
    """Names of each request's pages, the same for two requests as far as their prompts agree.

    A page is a hashed stretch of the workload's or a KV block, whichever is longer, and must be whole. What a session
    answers is part of its next prompt where that is long enough, and bears its names; other answers have names of
    their own. Raises ImpossibleError where neither length is a multiple of the other.
    """

    def __init__(self, requests: RequestTable, block_size: int) -> None:
        stretch = requests.prefix_block_tokens or block_size
        self.page_tokens = max(stretch, block_size)
        if self.page_tokens % min(stretch, block_size):
            raise ImpossibleError(
                f"serving.block_size = {block_size}: the workload names its prompts' openings every {stretch} tokens;"
                " give a size that divides this, or a multiple of it"
            )
        self._size = self.page_tokens // stretch  # hashes of a page
        self._hashes = requests.prefix_hashes
        self._requests = requests
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}  # (page before, hashes) -> name
        self._next = _next_turns(requests)
        self._names: dict[int, list[int]] = {}

    def of(self, index: int) -> list[int]:
        """Of a request's prompt and answer, as many as the two together fill."""
        names = self._names.get(index)
        if names is None:
            names = self._names[index] = self._make(index)
        return names

    def forget(self, index: int) -> None:
        """Nobody will ask again."""
        self._names.pop(index, None)

    def _make(self, index: int) -> list[int]:
        requests = self._requests
        prompt = int(requests.prompt_tokens[index])
        total = prompt + int(requests.output_tokens[index])
        names = self._prompt(index)
        follower = self._next.get(index)
        if follower is not None and requests.prompt_tokens[follower] >= total:
            longer = self._prompt(follower)
            if longer[: len(names)] == names:
                names = longer[: total // self.page_tokens]
        own = -1 - index * (1 << 32)
        return [*names, *range(own - len(names), own - total // self.page_tokens, -1)]

    def _prompt(self, index: int) -> list[int]:
        """Names of a prompt's whole pages, as far as it has hashes."""
        hashes = self._hashes[index] if self._hashes is not None else ()
        size, known, names, before = self._size, self._known, [], -1
        for page in range(min(int(self._requests.prompt_tokens[index]) // self.page_tokens, len(hashes) // size)):
            key = (before, tuple(hashes[page * size : (page + 1) * size]))
            before = known.setdefault(key, len(known))
            names.append(before)
        return names


def _next_turns(requests: RequestTable) -> dict[int, int]:
    """Request -> the next of its session."""
    if requests.session is None:
        return {}
    last: dict[int, int] = {}
    following: dict[int, int] = {}
    for index, session in enumerate(requests.session.tolist()):
        if session >= 0:
            if session in last:
                following[last[session]] = index
            last[session] = index
    return following
