"""Attention over the paged KV cache: prompts and their chunks, and decoding sequences."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from calibration.reference_server.batch import ChunkBatch, DecodeBatch
from calibration.reference_server.shape import ModelShape
from hardware_models.errors import FleetcastError

# query (rows, heads, d), the rows' keys and values (rows, kv heads, d), the layer's caches -> (rows, heads, d)
Attend = Callable[[Any, Any, Any, Any, Any], Any]
Decode = Callable[[Any, Any, Any], Any]  # query (decodes, heads, d) and the layer's caches

MODULES = {"triton": "triton", "flash": "flash_attn"}


class PagedAttention:
    """`name` is the decode kernel.

    torch: pages are gathered into padded sequences. triton: split-KV over pages, the kernel `calibrate measure` times.
    flash: flash_attn's. Chunks go through PyTorch's FlashAttention on a GPU, all in one call, over gathered pages
    where they have past tokens; on a CPU one after another through masked attention.
    """

    def __init__(self, torch: Any, shape: ModelShape, table: Any, block_size: int, name: str) -> None:
        """table: (seats, blocks of the longest sequence) int32 block numbers."""
        module = MODULES.get(name)
        if module is not None and importlib.util.find_spec(module) is None:
            raise FleetcastError(f"--attention {name}: {module} is not installed; install it or give another kernel")
        self._torch, self._shape, self._table = torch, shape, table
        self._longest = table.shape[1] * block_size
        self._prefill = self._prefill_flash if table.device.type == "cuda" else self._prefill_masked
        self._decode = {"torch": self._gathered, "triton": self._split_kv, "flash": self._flash}[name]

    def prepare(self, chunks: ChunkBatch | None, decodes: DecodeBatch | None) -> Attend:
        """What all layers of one step share."""
        if decodes is None:
            assert chunks is not None
            return lambda query, key, value, keys, values: self._prefill(chunks, query, key, value, keys, values)
        decode = self._decode(decodes)
        if chunks is None:
            return lambda query, _key, _value, keys, values: decode(query, keys, values)
        rows = chunks.rows

        def both(query: Any, key: Any, value: Any, keys: Any, values: Any) -> Any:
            first = self._prefill(chunks, query[:rows], key[:rows], value[:rows], keys, values)
            return self._torch.cat([first, decode(query[rows:], keys, values)])

        return both

    # -- chunks ----------------------------------------------------------------------------------------------------

    def _prefill_flash(self, chunks: ChunkBatch, query: Any, key: Any, value: Any, keys: Any, values: Any) -> Any:
        """Causal from the lower right, grouped heads as they are: what torch.nn.attention.varlen calls."""
        if chunks.slots is not None:
            key, value = self._gather(keys, chunks.slots), self._gather(values, chunks.slots)
        most_new = max(place.new for place in chunks.places)
        most_context = max(place.new + place.past for place in chunks.places)
        return self._torch.ops.aten._flash_attention_forward(
            query, key, value, chunks.query_ends, chunks.context_ends, most_new, most_context, 0.0, True, False
        )[0]

    def _prefill_masked(self, chunks: ChunkBatch, query: Any, key: Any, value: Any, keys: Any, values: Any) -> Any:
        torch = self._torch
        if chunks.slots is not None:
            key, value = self._gather(keys, chunks.slots), self._gather(values, chunks.slots)
        parts, row, start = [], 0, 0
        for place in chunks.places:
            new, context = place.new, place.new + place.past
            visible = torch.ones(new, context, dtype=torch.bool, device=query.device).tril(place.past)
            part = torch.nn.functional.scaled_dot_product_attention(
                query[row : row + new].transpose(0, 1),
                key[start : start + context].transpose(0, 1),
                value[start : start + context].transpose(0, 1),
                attn_mask=visible,
                enable_gqa=True,
            )
            parts.append(part.transpose(0, 1))
            row, start = row + new, start + context
        return torch.cat(parts)

    def _gather(self, cache: Any, slots: Any) -> Any:
        return cache.view(-1, self._shape.kv_heads, self._shape.head_dim).index_select(0, slots)

    # -- decodes ---------------------------------------------------------------------------------------------------

    def _gathered(self, decodes: DecodeBatch) -> Decode:
        torch, shape, count = self._torch, self._shape, decodes.count
        group = shape.heads // shape.kv_heads

        def run(query: Any, keys: Any, values: Any) -> Any:
            size = keys.shape[1]
            blocks = self._table.index_select(0, decodes.seats)[:, : -(-decodes.longest // size)]
            hidden = torch.arange(blocks.shape[1] * size, device=query.device) >= decodes.lengths.unsqueeze(1)
            key, value = (
                cache.index_select(0, blocks.reshape(-1)).view(count, -1, shape.kv_heads, shape.head_dim)
                for cache in (keys, values)
            )
            grouped = query.view(count, shape.kv_heads, group, shape.head_dim)
            scores = grouped @ key.permute(0, 2, 3, 1) * shape.head_dim**-0.5  # (decodes, kv heads, group, context)
            scores = scores.float().masked_fill(hidden[:, None, None, :], float("-inf"))
            out = scores.softmax(-1).to(value.dtype) @ value.transpose(1, 2)
            return out.reshape(count, shape.heads, shape.head_dim)

        return run

    def _split_kv(self, decodes: DecodeBatch) -> Decode:
        shape = self._shape
        kernels = importlib.import_module("calibration.measure.triton_kernels")
        layout = importlib.import_module("calibration.measure.attention_kernels")
        table = self._table.index_select(0, decodes.seats)
        run: Decode = kernels.split_kv_decode(
            layout.DecodeShape(
                heads=shape.heads,
                kv_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                window=0,
                contexts=[self._longest]
                * decodes.count,  # its parts, and so its compilation, follow from the count alone
                table=table,
                lengths=decodes.lengths,
                dtype=None,
            )
        )
        return run

    def _flash(self, decodes: DecodeBatch) -> Decode:
        attention = importlib.import_module("flash_attn").flash_attn_with_kvcache
        table = self._table.index_select(0, decodes.seats)

        def run(query: Any, keys: Any, values: Any) -> Any:
            return attention(
                query.unsqueeze(1), keys, values, cache_seqlens=decodes.lengths, block_table=table, causal=True
            ).squeeze(1)

        return run
