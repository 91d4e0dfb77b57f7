"""Seconds of parts cut to experts and neurons, on the GPU or on the server's CPU, and of reads in small pieces."""

from __future__ import annotations

from functools import cache
from typing import Any

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Elementwise, Gemm
from policies.offload.block_plan import Part
from policies.offload.expert_plan import Worker
from sim.offload.inference_prices import InferencePrices
from workloads.models.architecture import DenseMlp, MoeMlp


class WorkerPrices(InferencePrices):
    """What `policies.offload.worker_prices.WorkerPrices` asks for.

    The CPU streams weights once and multiplies them, whichever takes longer; weights of 4 and 8 bits are multiplied in
    fp32, as its vector units have them.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._expert = cache(self._expert_s)
        self._router = cache(self._router_s)
        self._mlp = cache(self._mlp_s)

    def expert_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of one expert."""
        return self._expert(part.shape, tokens, worker)

    def router_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of a norm and the router."""
        return self._router(part.shape, tokens, worker)

    def _router_s(self, shape: int, tokens: int, worker: Worker) -> float:
        mlp, hidden = self._moe(shape), float(self._architecture.hidden_size)
        dtype = self._dtypes.residual
        op = Gemm(m=float(tokens), n=float(mlp.experts), k=hidden, dtype=dtype, weight_dtype=self._dtypes.kept)
        if worker == "cpu":
            return self._cpu_s(float(op.flop), float(op.stored_bytes))
        norm = Elementwise(elements=tokens * hidden, reads=2, writes=2, dtype=dtype, flop_per_element=6)
        return self._seconds(op) + self._seconds(norm)

    def shared_s(self, part: Part, tokens: int, worker: Worker) -> float:
        """Of what all tokens visit beside experts."""
        mlp = self._moe(part.shape)
        return self._mlp(mlp.shared_intermediate_size, mlp.gated, tokens, worker, self._dtypes.weight)

    def cpu_part_s(self, part: Part, sequences: int, new_tokens: int, context_tokens: int) -> float:
        """Weights once for all tokens, and attention over the cache."""
        tokens = sequences * (1 if part.kind == "head" else new_tokens)
        size = part.weight_bytes
        if part.kind == "embedding":
            return 0.0  # rows of a table
        weight = self._dtypes.kept if part.kind == "head" else self._dtypes.weight
        elements = size / bytes_per_element(weight)
        seconds = self._cpu_s(2.0 * elements * tokens, size)
        if part.kind == "attention":
            of = self._shape(part.shape)
            seen = sequences * (context_tokens if new_tokens == 1 else (new_tokens + 1) / 2.0)
            op = of.decode_op(sequences=sequences, kv_tokens=seen, dtypes=self._dtypes)
            seconds += self._cpu_s(float(op.flop) * new_tokens, float(op.stored_bytes))
        return seconds

    def whole_s(self, part: Part, new_tokens: int, context_tokens: int, worker: Worker) -> float:
        """Of all of a part for one sequence."""
        if worker == "cpu":
            return self.cpu_part_s(part, 1, new_tokens, context_tokens)
        seconds = self.linear_s(part, 1, new_tokens)
        return seconds + (self.attention_s(part, 1, new_tokens, context_tokens) if part.kv_bytes else 0.0)

    def cpu_attention_s(self, part: Part, sequences: float, context_tokens: int) -> float:
        """Keys and values stream as weights do, where a rate was measured for that."""
        if self._rates.cpu_attention_flop_per_s is not None or self._rates.cpu_stream_bytes_per_s is None:
            return super().cpu_attention_s(part, sequences, context_tokens)
        op = self._shape(part.shape).decode_op(
            sequences=sequences, kv_tokens=sequences * context_tokens, dtypes=self._dtypes
        )
        return self._cpu_s(float(op.flop), float(op.stored_bytes))

    def neurons_s(self, part: Part, neurons: int, worker: Worker) -> float:
        """Of so many neurons of an MLP for one token."""
        mlp = self._group(part.shape).mlp
        assert isinstance(mlp, DenseMlp)
        return self._mlp_s(neurons, mlp.gated, 1, worker, self._dtypes.weight)

    def predictor_s(self, part: Part, rank: int, worker: Worker) -> float:
        """Of two products of low rank that name a token's neurons (arXiv 2312.11514, section 3.1)."""
        return self._mlp(rank, False, 1, worker, self._dtypes.weight) * (
            (self._architecture.hidden_size + part.neurons) / (2.0 * self._architecture.hidden_size)
        )

    def place_s(self, size_bytes: float, worker: Worker) -> float:
        """Rows written over others that left: read and written once."""
        if worker == "cpu":
            return self._cpu_s(0.0, 2.0 * size_bytes)
        elements = size_bytes / bytes_per_element(self._dtypes.residual)
        return self._seconds(Elementwise(elements=elements, reads=1, writes=1, dtype=self._dtypes.residual))

    def chunks_s(self, size_bytes: float, chunk_bytes: float, depth: int) -> float:
        """At the rate of random reads, by Little's law where a latency was measured, else by the data sheet."""
        drives, measured = self._tiers.need_drives(), self._rates.storage_read_latency_s
        most = self._rates.storage_read_bytes_per_s or drives.read_bytes_per_s
        if measured is None:
            return size_bytes / min(most, drives.random_bytes_per_s(chunk_bytes, depth=depth))
        return size_bytes / min(most, depth * chunk_bytes / (measured + chunk_bytes / most))

    def _expert_s(self, shape: int, tokens: int, worker: Worker) -> float:
        mlp = self._moe(shape)
        dtype = dict(self._architecture.stored_dtypes).get("experts", self._dtypes.weight)
        return self._mlp_s(mlp.expert_intermediate_size, mlp.gated, tokens, worker, dtype)

    def _mlp_s(self, inner: int, gated: bool, tokens: int, worker: Worker, weight_dtype: str) -> float:
        if not inner:
            return 0.0
        hidden, up = float(self._architecture.hidden_size), 2.0 if gated else 1.0
        act = self._dtypes.activation
        first = Gemm(m=float(tokens), n=up * inner, k=hidden, dtype=act, weight_dtype=weight_dtype)
        second = Gemm(m=float(tokens), n=hidden, k=float(inner), dtype=act, weight_dtype=weight_dtype)
        if worker == "cpu":
            return self._cpu_s(float(first.flop + second.flop), float(first.stored_bytes + second.stored_bytes))
        between = Elementwise(elements=float(tokens * inner), reads=up, writes=1, dtype=self._dtypes.residual)
        return self._seconds(first) + self._seconds(between) + self._seconds(second)

    def _cpu_s(self, flop: float, moved_bytes: float) -> float:
        rates, cpu = self._rates, self._tiers.cpu
        flop_per_s = rates.cpu_matrix_flop_per_s or cpu.flop_per_s()
        return max(flop / flop_per_s, moved_bytes / (rates.cpu_stream_bytes_per_s or cpu.bytes_per_s()))

    def _moe(self, shape: int) -> MoeMlp:
        mlp = self._group(shape).mlp
        assert not isinstance(mlp, DenseMlp)
        return mlp
