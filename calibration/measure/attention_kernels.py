"""Attention kernels of the libraries that may be installed, behind two signatures.

Prefill: (query (batch, new, heads, d), key and value (batch, past + new, kv heads, d), window) to (batch, new, heads,
d), causal from the lower right. Decode: a `DecodeKernel`, whose cache is paged where the library offers that.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Prefill = Callable[[Any, Any, Any, int], Any]
Decode = Callable[[Any, Any, Any], Any]  # query (batch, heads, d), key and value cache


@dataclass(frozen=True, slots=True)
class PrefillKernel:
    """A kernel for many new tokens; `general`: it also takes past tokens and a window."""

    name: str
    run: Prefill
    general: bool


@dataclass(frozen=True, slots=True)
class DecodeShape:
    """What a decode kernel is prepared for; table: (batch, pages) int32 or None, lengths: (batch,) int32."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    contexts: Sequence[int]
    table: Any
    lengths: Any
    dtype: Any


@dataclass(frozen=True, slots=True)
class DecodeKernel:
    """A kernel for one new token a sequence.

    page_tokens: the cache is (pages, page_tokens, kv heads, d); 0: sequences lie one after another in (tokens, kv
    heads, d). ragged: contexts may differ; windowed: it takes a window.
    """

    name: str
    page_tokens: int
    ragged: bool
    windowed: bool
    prepare: Callable[[DecodeShape], Decode]


def prefill_kernels(torch: Any, is_gpu: bool) -> list[PrefillKernel]:
    """All kernels that are installed, not yet tried."""
    if not is_gpu:
        return [PrefillKernel("torch sdpa cpu", _sdpa_masked(torch), True)]
    kernels = [
        PrefillKernel(f"{module} {_version(module)}", _flash(module), True)
        for module in ("flash_attn_interface", "flash_attn")  # the third and second versions of FlashAttention
        if _installed(module)
    ]
    kernels.append(PrefillKernel(f"torch flash {torch.__version__}", _torch_flash(torch), True))
    cudnn = torch.backends.cudnn.version()
    kernels.append(PrefillKernel(f"torch sdpa cudnn {cudnn}", _sdpa_cudnn(torch), False))
    return kernels


def decode_kernels(torch: Any, is_gpu: bool) -> list[DecodeKernel]:
    """All kernels that are installed, not yet tried."""
    if not is_gpu:
        return [DecodeKernel("torch sdpa cpu", 0, True, True, lambda shape: _each_alone(torch, shape))]
    kernels = []
    if _installed("flash_attn"):
        name = f"flash-attn paged {_version('flash_attn')}"
        kernels.append(DecodeKernel(name, 256, True, True, _flash_paged))
    if _installed("flashinfer"):
        name = f"flashinfer paged {_version('flashinfer')}"
        kernels.append(DecodeKernel(name, 16, True, False, lambda shape: _flashinfer(torch, shape)))
    if "block_table" in str(torch.ops.aten._flash_attention_forward.default._schema):
        name = f"torch flash paged {torch.__version__}"
        kernels.append(DecodeKernel(name, 256, True, True, lambda shape: _torch_varlen(torch, shape)))
    if _installed("triton"):
        name = f"split-kv paged, triton {_version('triton')}"
        kernels.append(DecodeKernel(name, 16, True, True, _triton))
    kernels += [
        DecodeKernel(f"torch flash {torch.__version__}", 0, False, True, lambda shape: _torch_dense(torch, shape)),
        DecodeKernel(f"torch flash varlen {torch.__version__}", 0, True, True, lambda s: _torch_varlen(torch, s)),
    ]
    return kernels


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(module: str) -> str:
    return str(getattr(importlib.import_module(module), "__version__", "of unknown version"))


def _sides(window: int) -> tuple[int, int]:
    """Tokens to the left and right that a query sees; -1: all."""
    return (window - 1, 0) if window else (-1, -1)


def _flash(module: str) -> Prefill:
    attention = importlib.import_module(module).flash_attn_func

    def run(query: Any, key: Any, value: Any, window: int) -> Any:
        out = attention(query, key, value, causal=True, window_size=_sides(window))
        return out[0] if isinstance(out, tuple) else out

    return run


def _torch_flash(torch: Any) -> Prefill:
    def run(query: Any, key: Any, value: Any, window: int) -> Any:
        more = {"window_size_left": window - 1, "window_size_right": 0} if window else {}
        return torch.ops.aten._flash_attention_forward(
            query, key, value, None, None, query.shape[1], key.shape[1], 0.0, True, False, **more
        )[0]

    return run


def _sdpa_cudnn(torch: Any) -> Prefill:
    attention = importlib.import_module("torch.nn.attention")

    def run(query: Any, key: Any, value: Any, window: int) -> Any:
        assert window == 0
        with attention.sdpa_kernel(attention.SDPBackend.CUDNN_ATTENTION):
            out = torch.nn.functional.scaled_dot_product_attention(
                query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True, enable_gqa=True
            )
        return out.transpose(1, 2)

    return run


def _sdpa_masked(torch: Any) -> Prefill:
    def run(query: Any, key: Any, value: Any, window: int) -> Any:
        new, total = query.shape[1], key.shape[1]
        plain = new == total and not window
        mask = None if plain else causal_mask(torch, new, total, window).to(query.device)
        out = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=mask,
            is_causal=plain,
            enable_gqa=True,
        )
        return out.transpose(1, 2)

    return run


def causal_mask(torch: Any, new: int, total: int, window: int) -> Any:
    """(new, total) booleans: which tokens a query sees, the last query standing at the last token."""
    behind = torch.arange(total - new, total)[:, None] - torch.arange(total)[None, :]
    return (behind >= 0) & (behind < window) if window else behind >= 0


def _each_alone(torch: Any, shape: DecodeShape) -> Decode:
    ends = _ends(shape.contexts)

    def run(query: Any, key: Any, value: Any) -> Any:
        outs = []
        for i, context in enumerate(shape.contexts):
            seen = min(context, shape.window or context)
            rows = slice(ends[i + 1] - seen, ends[i + 1])
            outs.append(
                torch.nn.functional.scaled_dot_product_attention(
                    query[i, :, None], key[rows].transpose(0, 1), value[rows].transpose(0, 1), enable_gqa=True
                )
            )
        return torch.stack(outs)[:, :, 0]

    return run


def _flash_paged(shape: DecodeShape) -> Decode:
    attention = importlib.import_module("flash_attn").flash_attn_with_kvcache

    def run(query: Any, key: Any, value: Any) -> Any:
        return attention(
            query[:, None],
            key,
            value,
            cache_seqlens=shape.lengths,
            block_table=shape.table,
            causal=True,
            window_size=_sides(shape.window),
        )[:, 0]

    return run


def _flashinfer(torch: Any, shape: DecodeShape) -> Decode:
    decode = importlib.import_module("flashinfer").BatchDecodeWithPagedKVCacheWrapper
    workspace = torch.empty(128 * 2**20, dtype=torch.uint8, device=shape.lengths.device)
    wrapper = decode(workspace, "NHD", use_tensor_cores=shape.heads // shape.kv_heads >= 4)
    pages = [-(-context // 16) for context in shape.contexts]
    indices = torch.cat([shape.table[i, :count] for i, count in enumerate(pages)])
    indptr = torch.tensor(_ends(pages), dtype=torch.int32, device=indices.device)
    wrapper.plan(
        indptr,
        indices,
        (shape.lengths - 1) % 16 + 1,
        shape.heads,
        shape.kv_heads,
        shape.head_dim,
        16,
        q_data_type=shape.dtype,
        kv_data_type=shape.dtype,
    )
    return lambda query, key, value: wrapper.run(query, (key, value))


def _torch_dense(torch: Any, shape: DecodeShape) -> Decode:
    prefill, batch, context = _torch_flash(torch), len(shape.contexts), shape.contexts[0]

    def run(query: Any, key: Any, value: Any) -> Any:
        keys, values = (cache.view(batch, context, shape.kv_heads, shape.head_dim) for cache in (key, value))
        return prefill(query[:, None], keys, values, shape.window)[:, 0]

    return run


def _torch_varlen(torch: Any, shape: DecodeShape) -> Decode:
    """Paged where the shape has a table."""
    batch, device = len(shape.contexts), shape.lengths.device
    queries = torch.arange(batch + 1, dtype=torch.int32, device=device)
    ends = torch.tensor(_ends(shape.contexts), dtype=torch.int32, device=device)
    left = shape.window - 1 if shape.window else -1
    more = {"window_size_left": left, "window_size_right": 0 if shape.window else -1}
    if shape.table is not None:
        more |= {"seqused_k": shape.lengths, "block_table": shape.table}
    longest = max(shape.contexts)

    def run(query: Any, key: Any, value: Any) -> Any:
        return torch.ops.aten._flash_attention_forward(
            query, key, value, queries, ends, 1, longest, 0.0, True, False, **more
        )[0]

    return run


def _triton(shape: DecodeShape) -> Decode:
    decode: Decode = importlib.import_module("calibration.measure.triton_kernels").split_kv_decode(shape)
    return decode


def _ends(counts: Sequence[int]) -> list[int]:
    """0 and the running sums."""
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    return ends
