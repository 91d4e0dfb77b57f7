"""KV caches of random values as decode kernels read them: pages in random order, or sequences end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from calibration.measure.attention_kernels import Decode, DecodeKernel, DecodeShape
from calibration.measure.machine import Machine

LONGEST_CONTEXT_RATIO = 16.0  # longest over the median


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads, KV heads and their width."""

    query: int
    kv: int
    dim: int


@dataclass(frozen=True, slots=True)
class DecodeSet:
    """Operand sets that share no bytes: entry i of each is one call's. Caches as the kernel wants them."""

    queries: Any  # (sets, batch, heads, d)
    keys: Sequence[Any]
    values: Sequence[Any]
    tables: Sequence[Any]  # (batch, pages) int32, or None
    calls: Sequence[Decode]


def contexts_of(batch: int, mean: int, skew: float) -> list[int]:
    """(batch,) context lengths of mean `mean`: log-normal quantiles whose coefficient of variation is near `skew`."""
    if skew == 0 or batch == 1:
        return [mean] * batch
    sigma = np.sqrt(np.log1p(skew**2))
    quantiles = [NormalDist().inv_cdf((i + 0.5) / batch) for i in range(batch)]
    shares = np.minimum(np.exp(sigma * np.asarray(quantiles)), LONGEST_CONTEXT_RATIO)
    lengths = 1 + np.floor((mean - 1) * shares / shares.mean()).astype(int)
    lengths[-1] += mean * batch - int(lengths.sum())
    return [int(length) for length in lengths]


def decode_set(
    machine: Machine,
    kernel: DecodeKernel,
    heads: Heads,
    contexts: Sequence[int],
    window: int = 0,
    count: int = 1,
    dtype: str = "bf16",
) -> DecodeSet:
    """`count` operand sets for sequences of `contexts` tokens each."""
    batch, page = len(contexts), kernel.page_tokens
    tokens = sum(-(-context // page) * page if page else context for context in contexts)
    size = count * (batch * heads.query + 2 * tokens * heads.kv) * heads.dim
    pool = machine.operands(dtype, (size,), 1)[0]
    queries, rest = split(pool, (count, batch, heads.query, heads.dim))
    keys, rest = split(rest, (count, tokens, heads.kv, heads.dim))
    values, _ = split(rest, (count, tokens, heads.kv, heads.dim))
    lengths = machine.tensor(contexts, "int32")
    tables = _tables(machine, contexts, page, count) if page else [None] * count
    calls = [
        kernel.prepare(
            DecodeShape(heads.query, heads.kv, heads.dim, window, contexts, table, lengths, machine.dtype(dtype))
        )
        for table in tables
    ]
    if page:  # all tables point into one pool of pages, as an engine's do
        paged = (count * tokens // page, page, heads.kv, heads.dim)
        return DecodeSet(queries, [keys.view(*paged)] * count, [values.view(*paged)] * count, tables, calls)
    return DecodeSet(queries, list(keys), list(values), tables, calls)


def sequence(data: DecodeSet, page: int, contexts: Sequence[int], index: int) -> tuple[Any, Any]:
    """Keys and values (context, kv heads, d) of one sequence of the first set, in the order of its tokens."""
    context = contexts[index]
    if page:
        rows = data.tables[0][index, : -(-context // page)].long()
        return data.keys[0][rows].flatten(0, 1)[:context], data.values[0][rows].flatten(0, 1)[:context]
    start = sum(contexts[:index])
    return data.keys[0][start : start + context], data.values[0][start : start + context]


def split(pool: Any, shape: Sequence[int]) -> tuple[Any, Any]:
    """The first elements of a flat pool in a shape, and the rest of it."""
    size = int(np.prod(shape))
    return pool[:size].view(*shape), pool[size:]


def _tables(machine: Machine, contexts: Sequence[int], page: int, count: int) -> list[Any]:
    """`count` block tables (batch, most pages of a sequence), each of its own pages in random order."""
    torch, pages = machine.torch, [-(-context // page) for context in contexts]
    order = torch.randperm(count * sum(pages)).to(torch.int32)
    tables = []
    for i in range(count):
        mine, start = torch.zeros(len(pages), max(pages), dtype=torch.int32), i * sum(pages)
        for row, used in enumerate(pages):
            mine[row, :used] = order[start : start + used]
            start += used
        tables.append(mine.to(machine.device))
    return tables
