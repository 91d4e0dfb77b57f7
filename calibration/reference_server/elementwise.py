"""Norms, rotation with the write to the KV cache, and gating: PyTorch's operators one by one, or fused by Triton."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from calibration.reference_server.shape import ModelShape

NORM_EPSILON = 1e-5
ROPE_THETA = 10_000.0  # base of the rotary frequencies (Su et al., 2021); its value changes no times


class Elementwise(Protocol):
    """What lies between matrix products; rows are tokens."""

    def add_norm(self, x: Any, residual: Any, weight: Any) -> Any:
        """Add x to the residual in place and return its norm: (rows, hidden)."""

    def rotate_and_store(self, qkv: Any, positions: Any, slots: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        """Rotate queries and keys and write keys and values into the cache.

        qkv: (rows, (heads + 2 kv_heads) x d); keys, values: (blocks, block_size, kv_heads, d); slots: (rows,) block x
        block_size + offset. Returns queries (rows, heads, d), contiguous, keys and values (rows, kv_heads, d).
        """

    def gate(self, both: Any) -> Any:
        """silu(first half) x second half: (rows, 2 width) to (rows, width)."""


def rope_table(torch: Any, positions: int, head_dim: int, device: str) -> Any:
    """(positions, head_dim) float32: cosines, then sines."""
    frequencies = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float().to(device)


class TorchElementwise:
    """One PyTorch operator after another."""

    def __init__(self, torch: Any, shape: ModelShape, table: Any) -> None:
        self._torch, self._shape, self._table = torch, shape, table

    def add_norm(self, x: Any, residual: Any, weight: Any) -> Any:
        """See Elementwise."""
        residual.add_(x)
        wide = residual.float()
        scale = (wide.square().mean(-1, keepdim=True) + NORM_EPSILON).rsqrt()
        return (wide * scale * weight.float()).to(x.dtype)

    def rotate_and_store(self, qkv: Any, positions: Any, slots: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        """See Elementwise."""
        shape = self._shape
        heads = qkv.view(-1, shape.qkv_heads, shape.head_dim)
        query, key, value = heads.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        query, key = self._rotate(query, positions), self._rotate(key, positions)
        keys.view(-1, shape.kv_heads, shape.head_dim).index_copy_(0, slots, key)
        values.view(-1, shape.kv_heads, shape.head_dim).index_copy_(0, slots, value)
        return query, key, value

    def _rotate(self, x: Any, positions: Any) -> Any:
        cos, sin = self._table.index_select(0, positions).unsqueeze(1).chunk(2, dim=-1)
        low, high = x.float().chunk(2, dim=-1)
        return self._torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1).to(x.dtype)

    def gate(self, both: Any) -> Any:
        """See Elementwise."""
        gate, up = both.chunk(2, dim=-1)
        return self._torch.nn.functional.silu(gate) * up


class TritonElementwise:
    """One kernel each; the norms and the gating are those that `calibrate measure` times."""

    def __init__(self, torch: Any, shape: ModelShape, table: Any) -> None:
        self._shape, self._table = shape, table
        self._kernels = importlib.import_module("calibration.measure.triton_kernels")
        self._rotate = importlib.import_module("calibration.reference_server.triton_rotate").rotate_and_store

    def add_norm(self, x: Any, residual: Any, weight: Any) -> Any:
        """See Elementwise."""
        return self._kernels.add_rms_norm(x, residual, weight)

    def rotate_and_store(self, qkv: Any, positions: Any, slots: Any, keys: Any, values: Any) -> tuple[Any, Any, Any]:
        """See Elementwise."""
        shape = self._shape
        heads = qkv.view(-1, shape.qkv_heads, shape.head_dim)
        query = self._rotate(heads, self._table, positions, slots, keys, values)
        return query, heads[:, shape.heads : -shape.kv_heads], heads[:, -shape.kv_heads :]

    def gate(self, both: Any) -> Any:
        """See Elementwise."""
        return self._kernels.silu_mul(both)


def make_elementwise(name: str, torch: Any, shape: ModelShape, table: Any) -> Elementwise:
    """By the name that --elementwise takes."""
    return TritonElementwise(torch, shape, table) if name == "triton" else TorchElementwise(torch, shape, table)
