"""Floating-point operations and bytes of a measured point, by the operators of `hardware_models.ops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from calibration.measurement_kinds import Value
from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Attention, AttentionDecode, AttentionPrefill, Elementwise, Gemm, GroupedGemm

Row = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Work:
    """What one call must at least do; `peak_dtype` names the rate that its arithmetic runs at ("" = none)."""

    flop: float
    moved_bytes: float  # to and from the device's memory
    peak_dtype: str
    launches: int = 1


def visible_pairs(new: int, past: int, window: int) -> float:
    """(query, key) pairs of one causal sequence: query i of `new` sees past + i tokens, at most `window` (0: all)."""
    if window == 0 or past + new <= window:
        return new * past + new * (new + 1) / 2
    growing = max(0, min(new, window - past))  # queries that still see all
    return growing * past + growing * (growing + 1) / 2 + (new - growing) * float(window)


def work(kind: str, row: Row) -> Work | None:
    """The work of a point of `kind`, or None for a kind that is no operator of a device (storage, host, power, ...)."""
    return WORK[kind](row) if kind in WORK else None


def _number(row: Row, name: str) -> int:
    return int(row[name])


def _gemm(row: Row) -> Work:
    dtype, weight_dtype = str(row["dtype"]), str(row["weight_dtype"])
    op = Gemm(m=_number(row, "m"), n=_number(row, "n"), k=_number(row, "k"), dtype=dtype, weight_dtype=weight_dtype)
    return Work(float(op.flop), float(op.moved_bytes), dtype)


def _attention(operator: type[Attention], row: Row, new: int, past: int) -> Work:
    batch, head_dim, window = _number(row, "batch"), _number(row, "head_dim"), _number(row, "window")
    cached = min(past + new, window + new - 1) if window else past + new
    op = operator(
        pairs=batch * visible_pairs(new, past, window),
        queries=batch * new,
        kv_tokens=batch * cached,
        heads=_number(row, "heads"),
        kv_heads=_number(row, "kv_heads"),
        qk_dim=head_dim,
        v_dim=head_dim,
        kv_width=2 * _number(row, "kv_heads") * head_dim,
        dtype=str(row["dtype"]),
        kv_dtype=str(row["kv_dtype"]),
    )
    return Work(float(op.flop), float(op.moved_bytes), op.dtype)


def _prefill(row: Row) -> Work:
    return _attention(AttentionPrefill, row, _number(row, "new_tokens"), _number(row, "past_tokens"))


def _decode(row: Row) -> Work:
    return _attention(AttentionDecode, row, 1, _number(row, "context_tokens") - 1)


def _moe(row: Row) -> Work:
    """Under skew as few as top_k experts may be read: the bytes are then a lower bound."""
    tokens, experts, top_k = _number(row, "tokens"), _number(row, "experts"), _number(row, "top_k")
    hidden, intermediate = _number(row, "hidden"), _number(row, "intermediate")
    dtype, weight_dtype = str(row["dtype"]), str(row["weight_dtype"])
    up, down = (
        GroupedGemm(tokens=tokens, n=n, k=k, experts=experts, top_k=top_k, dtype=dtype, weight_dtype=weight_dtype)
        for n, k in ((2 * intermediate, hidden), (hidden, intermediate))
    )
    moved = float(up.moved_bytes) + float(down.moved_bytes)
    if float(row["skew"]):
        unread = float(up.active_experts) - top_k
        moved -= max(0.0, unread) * 3.0 * hidden * intermediate * bytes_per_element(weight_dtype)
    return Work(float(up.flop) + float(down.flop), moved, dtype, launches=3 + experts)


def _elementwise(row: Row) -> Work:
    op = Elementwise(
        elements=float(_number(row, "rows")) * _number(row, "width"),
        reads=float(row["reads"]),
        writes=float(row["writes"]),
        dtype=str(row["dtype"]),
    )
    return Work(float(op.flop), float(op.moved_bytes), "fp32")


def _memory(row: Row) -> Work:
    return Work(0.0, float(row["bytes"]), "")


WORK: dict[str, Callable[[Row], Work]] = {
    "gemm": _gemm,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "moe": _moe,
    "elementwise": _elementwise,
    "memory": _memory,
}
