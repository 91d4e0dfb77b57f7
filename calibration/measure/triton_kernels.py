"""Kernels that PyTorch has only in pieces, fused as serving engines fuse them; needs Triton."""
# mypy: ignore-errors
# ruff: noqa: N803
# Triton's language is Python's grammar without its types, and constants are in capitals there.

import torch
import triton
import triton.language as tl

from calibration.measure.attention_kernels import Decode, DecodeShape

TOKENS = 64  # of the cache a step of the loop
LEAST_TOKENS = 256  # a part of a sequence that is worth its own program
MOST_PARTS = 128


@triton.jit(do_not_specialize=["window", "table_stride", "kv_heads", "group", "parts"])  # compiled once a width
def _partial_attention(
    query, key, value, table, lengths, out, norm, scale, window, table_stride, kv_heads, group, parts,
    ROWS: tl.constexpr, DIM: tl.constexpr, PAGE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """One part of one sequence for the query heads that share a KV head; out (batch, heads, parts, d), norm alike."""
    batch, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + batch)
    first = tl.where(window > 0, tl.maximum(length - window, 0), 0)
    share = tl.cdiv(tl.cdiv(length - first, parts), STEP) * STEP
    low = first + part * share
    high = tl.minimum(low + share, length)
    rows, dims = tl.arange(0, ROWS), tl.arange(0, DIM)
    heads = head * group + rows
    used = rows < group
    place = (batch * kv_heads * group + heads)[:, None] * DIM + dims[None, :]
    q = tl.load(query + place, mask=used[:, None], other=0.0)
    best = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, DIM], tl.float32)
    for start in range(low, high, STEP):
        tokens = start + tl.arange(0, STEP)
        inside = tokens < high
        page = tl.load(table + batch * table_stride + tokens // PAGE, mask=inside, other=0).to(tl.int64)
        offset = ((page * PAGE + tokens % PAGE) * kv_heads + head)[:, None] * DIM + dims[None, :]
        k = tl.load(key + offset, mask=inside[:, None], other=0.0)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(inside[None, :], score, -1e30)
        higher = tl.maximum(best, tl.max(score, 1))
        share_of = tl.exp(score - higher[:, None])
        keep = tl.exp(best - higher)
        v = tl.load(value + offset, mask=inside[:, None], other=0.0)
        acc = acc * keep[:, None] + tl.dot(share_of.to(v.dtype), v)
        total = total * keep + tl.sum(share_of, 1)
        best = higher
    spot = (batch * kv_heads * group + heads) * parts + part
    safe = tl.where(total > 0, total, 1.0)
    tl.store(out + spot[:, None] * DIM + dims[None, :], acc / safe[:, None], mask=used[:, None])
    tl.store(norm + spot, tl.where(total > 0, best + tl.log(safe), -1e30), mask=used)


@triton.jit
def _join_parts(parts, norm, out, DIM: tl.constexpr, PARTS: tl.constexpr):  # fmt: skip
    """Weighs the parts of one query head by their softmax sums."""
    row = tl.program_id(0)
    index, dims = tl.arange(0, PARTS), tl.arange(0, DIM)
    weight = tl.load(norm + row * PARTS + index)
    weight = tl.exp(weight - tl.max(weight, 0))
    data = tl.load(parts + (row * PARTS + index)[:, None] * DIM + dims[None, :])
    tl.store(out + row * DIM + dims, tl.sum(data * weight[:, None], 0) / tl.sum(weight, 0))


def split_kv_decode(shape: DecodeShape) -> Decode:
    """Decode attention over a paged cache in two kernels (flash-decoding: Dao et al., 2023)."""
    batch, heads, dim = len(shape.contexts), shape.heads, shape.head_dim
    device = shape.lengths.device
    processors = torch.cuda.get_device_properties(0).multi_processor_count if device.type == "cuda" else 4
    wanted = triton.cdiv(4 * processors, batch * shape.kv_heads)
    fitting = triton.cdiv(max(shape.contexts), LEAST_TOKENS)
    parts = triton.next_power_of_2(max(1, min(wanted, fitting, MOST_PARTS)))
    partial = torch.empty(batch, heads, parts, dim, dtype=torch.float32, device=device)
    norm = torch.empty(batch, heads, parts, dtype=torch.float32, device=device)
    group = heads // shape.kv_heads

    def run(query, key, value):
        out = torch.empty_like(query)
        _partial_attention[(batch, shape.kv_heads, parts)](
            query, key, value, shape.table, shape.lengths, partial, norm,
            dim**-0.5, shape.window, shape.table.stride(0), shape.kv_heads, group, parts,
            ROWS=max(16, triton.next_power_of_2(group)), DIM=dim, PAGE=key.shape[1], STEP=TOKENS,
            num_warps=4, num_stages=3,
        )  # fmt: skip
        _join_parts[(batch * heads,)](partial, norm, out, DIM=dim, PARTS=parts, num_warps=8)
        return out

    return run


@triton.jit
def _add_norm(x, residual, weight, out, width, eps, SIZE: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, SIZE)
    inside = column < width
    spot = row * width + column
    total = tl.load(x + spot, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(residual + spot, mask=inside, other=0.0).to(tl.float32)
    tl.store(residual + spot, total, mask=inside)
    scale = tl.rsqrt(tl.sum(total * total, 0) / width + eps)
    tl.store(out + spot, total * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32), mask=inside)


def add_rms_norm(x, residual, weight):
    """Residual sum (written in place) and its norm, in one pass; x (rows, width)."""
    rows, width = x.shape
    out = torch.empty_like(x)
    size = triton.next_power_of_2(width)
    _add_norm[(rows,)](x, residual, weight, out, width, 1e-5, SIZE=size, num_warps=min(16, max(4, size // 512)))
    return out


@triton.jit
def _silu_mul(both, out, width, SIZE: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = column < width
    gate = tl.load(both + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, gate * tl.sigmoid(gate) * up, mask=inside)


def silu_mul(both):
    """Gated activation: both (rows, 2 width) to (rows, width)."""
    rows, width = both.shape[0], both.shape[1] // 2
    out = torch.empty(rows, width, dtype=both.dtype, device=both.device)
    _silu_mul[(rows, triton.cdiv(width, 1024))](both, out, width, SIZE=1024, num_warps=4)
    return out


@triton.jit
def _rope(x, table, positions, heads, HALF: tl.constexpr):
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at, half = tl.load(positions + token), tl.arange(0, HALF)
    cos = tl.load(table + at * 2 * HALF + half).to(tl.float32)
    sin = tl.load(table + at * 2 * HALF + HALF + half).to(tl.float32)
    spot = (token * heads + head) * 2 * HALF + half
    low, high = tl.load(x + spot).to(tl.float32), tl.load(x + spot + HALF).to(tl.float32)
    tl.store(x + spot, low * cos - high * sin)
    tl.store(x + spot + HALF, high * cos + low * sin)


def rope(x, table, positions):
    """Rotary embedding in place: x (tokens, heads, d), table (positions, d) of cosines then sines."""
    _rope[(x.shape[0], x.shape[1])](x, table, positions, x.shape[1], HALF=x.shape[2] // 2, num_warps=1)
    return x
