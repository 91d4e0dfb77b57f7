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
    n: Size
    k: Size
    dtype: str
    weight_dtype: str
    quantised: bool = False  # activations are in `dtype` already: no kernel rounds them first

    @property
    def flop(self) -> Size:
        """Multiply and add for each of the m x n x k products."""
        return 2.0 * self.m * self.n * self.k

    @property
    def out_bytes_per_element(self) -> float:
        """Products of narrow formats come out in 16 bits (fp8 and int8 kernels of CUTLASS and cuBLASLt in serving)."""
        return max(2.0, bytes_per_element(self.dtype))

    @property
    def stored_bytes(self) -> Size:
        """Weights: what must come from memory, where activations may still be in a cache."""
        return self.n * 1.0 * self.k * bytes_per_element(self.weight_dtype)

    @property
    def moved_bytes(self) -> Size:
        """Weights once, activations in and out."""
        activations = self.m * (self.k * bytes_per_element(self.dtype) + self.n * self.out_bytes_per_element)
        return self.stored_bytes + activations


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedGemm:
    """A mixture-of-experts projection: each token's row visits `top_k` of `experts` (k, n) matrices.

    Routing is uniform: of E experts, T tokens that pick k each touch E (1 - (1 - k/E)^T) in expectation; `balanced`
    routing gives every expert the same number of rows, and touches as many experts as there are rows.
    """

    tokens: Size
    n: Size
    k: Size
    experts: Size
    top_k: Size
    dtype: str
    weight_dtype: str
    balanced: bool = False

    @property
    def active_experts(self) -> Size:
        """Expected number of experts whose weights are read."""
        if self.balanced:
            return np.minimum(self.experts, self.tokens * self.top_k)
        return self.experts * (1.0 - (1.0 - np.minimum(1.0, self.top_k / self.experts)) ** self.tokens)

    @property
    def flop(self) -> Size:
        """Every token is multiplied by top_k matrices."""
        return 2.0 * self.tokens * self.top_k * self.n * self.k

    @property
    def stored_bytes(self) -> Size:
        """Weights of the active experts."""
        return self.active_experts * 1.0 * self.n * self.k * bytes_per_element(self.weight_dtype)

    @property
    def moved_bytes(self) -> Size:
        """Weights of the active experts, rows in and out."""
        return self.stored_bytes + self.tokens * self.top_k * (1.0 * self.n + self.k) * bytes_per_element(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Scores and values over `pairs` (query, key) positions of any number of sequences, as one fused kernel.

    `kv_width` is the number of cached elements a token and layer holds on this device, over all its KV heads: it
    covers multi-head, grouped-query and multi-query attention, and the shared latent of multi-head latent attention.
    """

    pairs: Size  # sum over sequences of visible (query, key) pairs, per head
    queries: Size  # query tokens over all sequences
    kv_tokens: Size  # cached tokens read, over all sequences
    heads: Size
    kv_heads: Size
    qk_dim: Size
    v_dim: Size
    kv_width: Size
    dtype: str
    kv_dtype: str
    window: int = 0  # keys a query sees at most; 0: all before it

    @property
    def latent(self) -> bool:
        """All heads read one compressed vector a token."""
        return bool(np.all(self.kv_heads == 1) and np.all(self.kv_width == self.qk_dim))

    @property
    def flop(self) -> Size:
        """QK^T and PV, multiply and add."""
        return 2.0 * self.pairs * self.heads * (self.qk_dim + self.v_dim)

    @property
    def stored_bytes(self) -> Size:
        """KV cache, once."""
        return self.kv_tokens * self.kv_width * bytes_per_element(self.kv_dtype)

    @property
    def moved_bytes(self) -> Size:
        """KV cache once, queries in, outputs out."""
        return self.stored_bytes + self.queries * self.heads * (self.qk_dim + self.v_dim) * bytes_per_element(
            self.dtype
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPrefill(Attention):
    """Attention of many new tokens a sequence (a prompt or a chunk of one), `sequences` of them alike."""

    sequences: Size = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionDecode(Attention):
    """Attention of one new token a sequence."""

    mixed: bool = False  # in a step with a prompt's chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionTraining:
    """One layer's attention of a training step in one fused kernel: forward, or backward alone.

    Backward computes the scores again and never stores them. A causal mask is aligned to the last query and key; a
    sliding window goes with one, and leaves each query its last `window` keys.
    """

    batch: Size  # sequences
    queries: Size  # a sequence
    keys: Size  # a sequence
    heads: Size
    kv_heads: Size
    qk_dim: Size
    v_dim: Size
    dtype: str
    causal: bool = True
    window: Size = 0  # keys a query sees, its own included; 0: all
    backward: bool = False
    implementation: str = "flash2"  # one of `hardware_models.kernels.attention_training.IMPLEMENTATIONS`

    @property
    def visible(self) -> Size:
        """Scores of one head and sequence that the mask leaves; of equal queries and keys half."""
        if not self.causal:
            return self.queries * 1.0 * self.keys
        short = np.minimum(self.queries, self.keys)
        window = np.where(self.window, self.window, self.keys)
        last, first = np.maximum(self.keys - window, 0.0), np.maximum(self.keys - short - window, 0.0)
        beyond: Size = (last * last - first * first) / 2.0  # the windows; keys beyond those of the last and first query
        return short * (self.keys - short / 2.0) - beyond

    @property
    def flop_per_score(self) -> Size:
        """Multiply and add: forward Q K^T and P V; backward Q K^T again, dO V^T, and those of dV, dQ and dK."""
        return 6.0 * self.qk_dim + 4.0 * self.v_dim if self.backward else 2.0 * self.qk_dim + 2.0 * self.v_dim

    @property
    def flop(self) -> Size:
        """Of the scores that the mask leaves."""
        return self.batch * 1.0 * self.heads * self.visible * self.flop_per_score

    @property
    def stored_bytes(self) -> Size:
        """Nothing: activations may still be in a cache."""
        return self.batch * 0.0

    @property
    def saved_bytes(self) -> Size:
        """What the forward pass leaves for the backward: Q, K, V, O, and a row's log-sum-exp in fp32."""
        return self._query_elements * self._element + self._key_elements * self._element + self._row_bytes

    @property
    def moved_bytes(self) -> Size:
        """Forward Q, K, V in, O and log-sum-exps out; backward those and dO in, dQ, dK, dV out."""
        if not self.backward:
            return self.saved_bytes
        gradients = self._query_elements + self._key_elements  # of Q, K and V to write, and of O to read
        return self.saved_bytes + gradients * self._element

    @property
    def _element(self) -> float:
        return bytes_per_element(self.dtype)

    @property
    def _query_elements(self) -> Size:
        """Q and O."""
        return self.batch * 1.0 * self.queries * self.heads * (self.qk_dim + self.v_dim)

    @property
    def _key_elements(self) -> Size:
        """K and V."""
        return self.batch * 1.0 * self.keys * self.kv_heads * (self.qk_dim + self.v_dim)

    @property
    def _row_bytes(self) -> Size:
        return 4.0 * self.batch * self.queries * self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Norms, activations, rotary embeddings, residuals: `elements` values, each read and written some times."""

    elements: Size
    reads: float
    writes: float
    dtype: str
    flop_per_element: float = 1.0
    streaming: bool = False  # one long pass of a training framework, not a serving engine's kernel on a few rows

    @property
    def flop(self) -> Size:
        """On the vector units, at the fp32 rate."""
        return self.elements * self.flop_per_element

    @property
    def stored_bytes(self) -> Size:
        """Nothing: activations may still be in a cache."""
        return self.elements * 0.0

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
    def stored_bytes(self) -> Size:
        """Rows of the table: a repeated token's may still be in a cache."""
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


DeviceOp: TypeAlias = (
    Gemm | GroupedGemm | AttentionPrefill | AttentionDecode | AttentionTraining | Elementwise | Embedding
)
Op: TypeAlias = DeviceOp | Collective
