"""Rotary positions and the write to the paged KV cache in one kernel, as serving engines do it; needs Triton."""
# mypy: ignore-errors
# ruff: noqa: N803
# Triton's language is Python's grammar without its types, and constants are in capitals there.

import torch
import triton
import triton.language as tl


@triton.jit
def _rotate_and_store(
    qkv, query, table, positions, slots, keys, values,
    HEADS: tl.constexpr, KV: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One head of one token; queries go to `query`, keys are rotated in place and cached, values cached."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    half = tl.arange(0, HALF)
    spot = (token * (HEADS + 2 * KV) + head) * 2 * HALF + half
    low, high = tl.load(qkv + spot), tl.load(qkv + spot + HALF)
    slot = tl.load(slots + token)
    if head < HEADS + KV:
        at = tl.load(positions + token)
        cos = tl.load(table + at * 2 * HALF + half)
        sin = tl.load(table + at * 2 * HALF + HALF + half)
        wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
        new_low = (wide_low * cos - wide_high * sin).to(low.dtype)
        new_high = (wide_high * cos + wide_low * sin).to(low.dtype)
        if head < HEADS:
            place = (token * HEADS + head) * 2 * HALF + half
            tl.store(query + place, new_low)
            tl.store(query + place + HALF, new_high)
        else:
            place = (slot * KV + head - HEADS) * 2 * HALF + half
            tl.store(qkv + spot, new_low)
            tl.store(qkv + spot + HALF, new_high)
            tl.store(keys + place, new_low)
            tl.store(keys + place + HALF, new_high)
    else:
        place = (slot * KV + head - HEADS - KV) * 2 * HALF + half
        tl.store(values + place, low)
        tl.store(values + place + HALF, high)


def rotate_and_store(heads, table, positions, slots, keys, values):
    """Rotated queries (rows, heads, d); keys are rotated in place.

    heads: (rows, heads + 2 kv heads, d), contiguous; table: (positions, d) cosines then sines, float32; positions,
    slots: (rows,) int64; keys, values: (blocks, block_size, kv heads, d), contiguous.
    """
    rows, count, dim = heads.shape
    kv = keys.shape[2]
    query = torch.empty(rows, count - 2 * kv, dim, dtype=heads.dtype, device=heads.device)
    _rotate_and_store[(rows, count)](
        heads, query, table, positions, slots, keys, values, HEADS=count - 2 * kv, KV=kv, HALF=dim // 2, num_warps=1
    )
    return query
