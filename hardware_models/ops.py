"""Operators: shapes, not times. Each knows its floating-point operations and the bytes it must move.

Sizes may be numbers or numpy arrays (they broadcast), so that a thousand batch sizes are priced in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element

Size: TypeAlias = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """(m, k) activations times a (k, n) weight matrix."""

    m: Size
    n: int
    k: int
    dtype: str
    weight_dtype: str

    @property
    def flop(self) -> Size:
        """Multiply and add for each of the m x n x k products."""
        return 2.0 * self.m * self.n * self.k

    @property
    def moved_bytes(self) -> Size:
        """Weights once, activations in and out."""
        weights = float(self.n) * self.k * bytes_per_element(self.weight_dtype)
        return weights + self.m * float(self.n + self.k) * bytes_per_element(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedGemm:
    """A mixture-of-experts projection: each token's row visits `top_k` of `experts` (k, n) matrices.

    Routing is uniform: of E experts, T tokens that pick k each touch E (1 - (1 - k/E)^T) in expectation.
    """

    tokens: Size
    n: int
    k: int
    experts: int
    top_k: float
    dtype: str
    weight_dtype: str

    @property
    def active_experts(self) -> Size:
        """Expected number of experts whose weights are read."""
        return self.experts * (1.0 - (1.0 - min(1.0, self.top_k / self.experts)) ** self.tokens)

    @property
    def flop(self) -> Size:
        """Every token is multiplied by top_k matrices."""
        return 2.0 * self.tokens * self.top_k * self.n * self.k

    @property
    def moved_bytes(self) -> Size:
        """Weights of the active experts, rows in and out."""
        weights = self.active_experts * float(self.n) * self.k * bytes_per_element(self.weight_dtype)
        rows = self.tokens * self.top_k * float(self.n + self.k) * bytes_per_element(self.dtype)
        return weights + rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Scores and values over `pairs` (query, key) positions of any number of sequences, as one fused kernel.

    `kv_width` is the number of cached elements a token and layer holds on this device, over all its KV heads: it
    covers multi-head, grouped-query and multi-query attention, and the shared latent of multi-head latent attention.
    """

    pairs: Size  # sum over sequences of visible (query, key) pairs, per head
    queries: Size  # query tokens over all sequences
    kv_tokens: Size  # cached tokens read, over all sequences
    heads: int
    qk_dim: int
    v_dim: int
    kv_width: int
    dtype: str
    kv_dtype: str

    @property
    def flop(self) -> Size:
        """QK^T and PV, multiply and add."""
        return 2.0 * self.pairs * self.heads * (self.qk_dim + self.v_dim)

    @property
    def moved_bytes(self) -> Size:
        """KV cache once, queries in, outputs out."""
        cache = self.kv_tokens * self.kv_width * bytes_per_element(self.kv_dtype)
        return cache + self.queries * self.heads * (self.qk_dim + self.v_dim) * bytes_per_element(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPrefill(Attention):
    """Attention of many new tokens a sequence (a prompt or a chunk of one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionDecode(Attention):
    """Attention of one new token a sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Norms, activations, rotary embeddings, residuals: `elements` values, each read and written some times."""

    elements: Size
    reads: float
    writes: float
    dtype: str
    flop_per_element: float = 1.0

    @property
    def flop(self) -> Size:
        """On the vector units, at the fp32 rate."""
        return self.elements * self.flop_per_element

    @property
    def moved_bytes(self) -> Size:
        """Each read and write goes to memory."""
        return self.elements * (self.reads + self.writes) * bytes_per_element(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Rows of a table gathered by token id."""

    tokens: Size
    width: int
    dtype: str

    @property
    def flop(self) -> Size:
        """A gather computes nothing."""
        return self.tokens * 0.0

    @property
    def moved_bytes(self) -> Size:
        """Row in, row out."""
        return 2.0 * self.tokens * self.width * bytes_per_element(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Data exchanged by `ranks` devices; `payload_bytes` is the buffer one rank starts (or, gathering, ends) with."""

    kind: str  # all_reduce | all_gather | reduce_scatter | all_to_all | send_recv
    payload_bytes: Size
    ranks: int


DeviceOp: TypeAlias = Gemm | GroupedGemm | AttentionPrefill | AttentionDecode | Elementwise | Embedding
Op: TypeAlias = DeviceOp | Collective
