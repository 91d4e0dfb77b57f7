"""The columnar container of a workload, which every trace reader and every generator returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_models.errors import FleetcastError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
PrefixHashes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestTable:
    """Requests in order of arrival, one array element a request; make it with `RequestTable.build`.

    Arrays have shape (requests,) and are read-only. `prefix_hashes[i]` names the blocks of `prefix_block_tokens`
    tokens that open prompt i: two prompts share a cached prefix as far as their hashes agree from the start.
    """

    source: str
    request_id: IntArray
    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    labels: tuple[str, ...] | None = None  # request ids that were not integers
    priority: IntArray | None = None  # lower is served first, as in vLLM
    tenant: tuple[str, ...] | None = None
    session: IntArray | None = None  # -1: belongs to none
    prefix_hashes: PrefixHashes | None = None
    prefix_block_tokens: int | None = None
    notes: tuple[str, ...] = ()  # what the reader left out, and why

    @classmethod
    def build(
        cls,
        *,
        source: str,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        request_id: ArrayLike | None = None,
        labels: Sequence[str] | None = None,
        priority: ArrayLike | None = None,
        tenant: Sequence[str] | None = None,
        session: ArrayLike | None = None,
        prefix_hashes: Iterable[Sequence[int]] | None = None,
        prefix_block_tokens: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> RequestTable:
        """Check the columns, sort them by arrival (stable: ties keep their given order) and freeze them."""
        arrival = np.array(arrival_s, dtype=np.float64)
        if arrival.size == 0:
            raise FleetcastError(f"trace {source} holds no requests; give at least one")
        ids = np.arange(arrival.size) if request_id is None else request_id
        table = cls(
            source=source,
            request_id=np.array(ids, dtype=np.int64),
            arrival_s=arrival,
            prompt_tokens=_tokens(source, "prompt_tokens", prompt_tokens),
            output_tokens=_tokens(source, "output_tokens", output_tokens),
            labels=None if labels is None else tuple(labels),
            priority=_optional_int(priority),
            tenant=None if tenant is None else tuple(tenant),
            session=_optional_int(session),
            prefix_hashes=None if prefix_hashes is None else tuple(map(tuple, prefix_hashes)),
            prefix_block_tokens=prefix_block_tokens,
            notes=notes,
        )
        _check_shapes(table)
        _check_arrivals(source, arrival)
        _check_ids(table)
        if np.all(arrival[1:] >= arrival[:-1]):
            return _frozen(table)
        return table.take(np.argsort(arrival, kind="stable"))

    def __len__(self) -> int:
        return int(self.arrival_s.size)

    @property
    def duration_s(self) -> float:
        """Time of the last arrival; the clock starts at 0."""
        return float(self.arrival_s[-1])

    @property
    def mean_rate_per_s(self) -> float:
        """Requests per second between the first and the last arrival; NaN where both coincide."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return (len(self) - 1) / span if span > 0 else float("nan")

    def take(self, rows: NDArray[Any] | slice) -> RequestTable:
        """Keep the given rows (an index array, a mask or a slice), which must leave arrivals sorted."""
        index = np.arange(len(self))[rows]
        if index.size == 0:
            raise FleetcastError(f"trace {self.source} holds no requests in the part asked for; widen it")
        whole = bool(index.size == len(self) and np.array_equal(index, np.arange(len(self))))
        return self if whole else _frozen(replace(self, **_picked(self, index)))

    def head(self, count: int) -> RequestTable:
        """Keep the first `count` requests."""
        if count < 1:
            raise FleetcastError(f"num_requests = {count}: give a count of at least 1")
        return self.take(slice(0, count))

    def slice_time(self, duration_s: float) -> RequestTable:
        """Keep the requests that arrive before `duration_s`."""
        if not duration_s > 0:
            raise FleetcastError(f"duration_s = {duration_s}: give a time above 0 s")
        end = int(np.searchsorted(self.arrival_s, duration_s, side="left"))
        if end == 0:
            raise FleetcastError(
                f"trace {self.source} holds no requests before duration_s = {duration_s}; "
                f"its first arrives at {self.arrival_s[0]:.6g} s"
            )
        return self.take(slice(0, end))

    def scale_rate(self, factor: float) -> RequestTable:
        """Multiply the request rate: every time from 0 to an arrival is divided by `factor`; lengths stay."""
        if not (factor > 0 and np.isfinite(factor)):
            raise FleetcastError(f"rate_scale = {factor}: give a finite factor above 0")
        return self if factor == 1.0 else _frozen(replace(self, arrival_s=self.arrival_s / factor))


def merge(source: str, tables: Sequence[RequestTable]) -> RequestTable:
    """Put several workloads on one clock; ids are counted anew, a tenant or session column must be in all."""
    if not tables:
        raise FleetcastError(f"trace {source} holds no requests; give at least one part")
    order = np.argsort(np.concatenate([t.arrival_s for t in tables]), kind="stable")

    def stack(name: str) -> NDArray[Any] | None:
        parts = [getattr(t, name) for t in tables]
        return None if any(p is None for p in parts) else np.concatenate(parts)[order]

    tenant = None
    if all(t.tenant is not None for t in tables):
        names = [name for t in tables for name in t.tenant or ()]
        tenant = [names[i] for i in order]
    columns = {name: stack(name) for name in ("arrival_s", "prompt_tokens", "output_tokens", "priority", "session")}
    return RequestTable.build(source=source, tenant=tenant, **columns)  # type: ignore[arg-type]


def _tokens(source: str, name: str, values: ArrayLike) -> IntArray:
    given = np.asarray(values)
    with np.errstate(invalid="ignore"):
        tokens = np.array(given, dtype=np.int64)
    bad = np.flatnonzero((tokens < 1) | (tokens != given))
    if bad.size:
        raise FleetcastError(
            f"trace {source}: {name} of request {bad[0]} is {given[bad[0]]}; give a whole number of at least 1"
        )
    return tokens


def _optional_int(values: ArrayLike | None) -> IntArray | None:
    return None if values is None else np.array(values, dtype=np.int64)


def _check_shapes(table: RequestTable) -> None:
    for name in _COLUMNS:
        column = getattr(table, name)
        if column is not None and len(column) != len(table):
            raise FleetcastError(
                f"trace {table.source}: {name} has {len(column)} values for {len(table)} requests; give one each"
            )
    if table.prefix_hashes is not None and not (table.prefix_block_tokens or 0) > 0:
        raise FleetcastError(
            f"trace {table.source}: prefix_block_tokens = {table.prefix_block_tokens}; "
            "prefix hashes need the tokens in a block, at least 1"
        )


def _check_ids(table: RequestTable) -> None:
    ids = table.request_id
    if np.all(ids[1:] > ids[:-1]):
        return
    unique, counts = np.unique(ids, return_counts=True)
    if unique.size < ids.size:
        raise FleetcastError(
            f"trace {table.source}: request_id {unique[np.argmax(counts)]} is given twice; give each request its own"
        )


def _check_arrivals(source: str, arrival_s: FloatArray) -> None:
    bad = np.flatnonzero(~(np.isfinite(arrival_s) & (arrival_s >= 0)))
    if bad.size:
        raise FleetcastError(
            f"trace {source}: arrival_s of request {bad[0]} is {arrival_s[bad[0]]}; give a time of at least 0 s"
        )


_COLUMNS = (
    "request_id",
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "labels",
    "priority",
    "tenant",
    "session",
    "prefix_hashes",
)


def _picked(table: RequestTable, index: NDArray[np.intp]) -> dict[str, Any]:
    picked: dict[str, Any] = {}
    for name in _COLUMNS:
        column = getattr(table, name)
        if isinstance(column, np.ndarray):
            picked[name] = column[index]
        elif column is not None:
            picked[name] = tuple(column[i] for i in index)
    return picked


def _frozen(table: RequestTable) -> RequestTable:
    for name in _COLUMNS:
        column = getattr(table, name)
        if isinstance(column, np.ndarray):
            column.setflags(write=False)
    return table
