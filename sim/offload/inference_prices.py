"""Seconds of offloaded inference: the GPU by its calibrated kernels, copies, drives and CPU by the server's tiers."""

from __future__ import annotations

from functools import cache

from hardware_models.device import Device
from hardware_models.ops import DeviceOp, Elementwise, Gemm
from hardware_models.tiers import Tiers
from policies.offload.block_plan import Part, Route
from sim.offload.inference_scenario import OffloadRates
from workloads.models.architecture import DenseMlp, LayerGroup, ModelArchitecture
from workloads.models.attention_shapes import AttentionShape, attention_shapes
from workloads.models.dtypes import Dtypes
from workloads.models.layer_operators import LayerOperators, Operator
from workloads.models.operators import head_operators
from workloads.models.stages import LayerRange

SCORE_BYTES = 2.0  # of each head's query and key, kept between two products where no kernel fuses them


class InferencePrices:
    """What `policies.offload.block_plan.Prices` asks for; rates: measured figures that stand in for data sheets'."""

    def __init__(
        self, architecture: ModelArchitecture, device: Device, tiers: Tiers, dtypes: Dtypes, rates: OffloadRates
    ) -> None:
        self._architecture, self._device, self._tiers, self._dtypes = architecture, device, tiers, dtypes
        self._rates = rates
        self._linear = cache(self._linear_s)
        self._attention = cache(self._attention_s)
        whole = LayerRange(0, architecture.num_layers, architecture.num_layers)
        self._shapes = {
            group.attention: shape
            for group in architecture.groups
            for shape in attention_shapes(architecture, 1, whole)
            if shape.window == group.attention.window and shape.heads == group.attention.heads
        }
        self._routes = self._route_rates()

    @property
    def has_drives(self) -> bool:
        """Of the server."""
        return self._tiers.drives is not None

    @property
    def drives(self) -> int:
        """Of the server; 0: none."""
        return self._tiers.drives.count if self._tiers.drives is not None else 0

    def linear_s(self, part: Part, sequences: float, new_tokens: int) -> float:
        """Matrix products, norms and activations; no rate above the one measured."""
        return self._linear(part.kind, part.shape, sequences, new_tokens)

    def attention_s(self, part: Part, sequences: float, new_tokens: int, context_tokens: int) -> float:
        """Prompts by the causal half of pairs, where no rate was measured."""
        return self._attention(part.shape, sequences, new_tokens, context_tokens) if sequences else 0.0

    def cpu_attention_s(self, part: Part, sequences: float, context_tokens: int) -> float:
        """The CPU reads keys and values once and computes two products, whichever takes longer."""
        shape = self._shape(part.shape)
        op = shape.decode_op(sequences=sequences, kv_tokens=sequences * context_tokens, dtypes=self._dtypes)
        if (rate := self._rates.cpu_attention_flop_per_s) is not None:
            return float(op.flop) / rate
        return self._tiers.cpu.seconds(float(op.flop), float(op.stored_bytes))

    def decompress_s(self, size_bytes: float) -> float:
        """Four bits an element read, the model's format written."""
        elements = 2.0 * size_bytes
        op = Elementwise(elements=elements, reads=0.28, writes=1, dtype=self._dtypes.residual, streaming=True)
        return self._seconds(op)

    def copy_s(self, route: Route, size_bytes: float) -> float:
        """Alone; what else crosses host memory at once does not slow it."""
        rate, latency_s = self._routes[route]
        if not rate:
            self._tiers.need_drives()
        return latency_s + size_bytes / rate

    def workspace_bytes(self, part: Part, sequences: float, new_tokens: int) -> float:
        """Input, output, and the widest of what lies between: queries, keys and values with scores, or the MLP's."""
        tokens = sequences * new_tokens
        width = float(self._architecture.hidden_size)
        if part.kind == "attention":
            shape = self._shape(part.shape)
            between = shape.heads * shape.prefill_qk_dim + shape.prefill_kv_width + shape.heads * shape.prefill_v_dim
            scores = SCORE_BYTES * sequences * shape.heads * new_tokens * new_tokens
            return 2.0 * tokens * (2.0 * width + between) + scores
        if part.kind == "mlp":
            mlp = self._group(part.shape).mlp
            inner = mlp.intermediate_size if isinstance(mlp, DenseMlp) else mlp.expert_intermediate_size * mlp.top_k
            return 2.0 * tokens * (2.0 * width + inner * (2 if mlp.gated else 1))
        logits = 4.0 * sequences * self._architecture.vocab_size if part.kind == "head" else 0.0
        return 2.0 * tokens * 2.0 * width + logits

    def _route_rates(self) -> dict[Route, tuple[float, float]]:
        """Bytes/s and seconds before the first byte; drives are looked up only where they are used."""
        rates, tiers = self._rates, self._tiers
        pinned, down = tiers.route("h2d"), tiers.route("d2h")
        drives = tiers.drives
        read = rates.storage_read_bytes_per_s or (drives.read_bytes_per_s if drives else 0.0)
        write = rates.storage_write_bytes_per_s or (drives.sustained_write_bytes_per_s if drives else 0.0)
        pageable_up = rates.h2d_pageable_bytes_per_s or tiers.copy_bytes_per_s("h2d", pinned=False)
        pageable_down = tiers.copy_bytes_per_s("d2h", pinned=False)
        return {
            "h2d": (rates.h2d_bytes_per_s or tiers.copy_bytes_per_s("h2d"), pinned.latency_s),
            "h2d_pageable": (pageable_up, pinned.latency_s),
            "d2h": (tiers.copy_bytes_per_s("d2h"), down.latency_s),
            "d2h_cache": (rates.d2h_cache_bytes_per_s or pageable_down, down.latency_s),
            "d2h_activation": (rates.d2h_activation_bytes_per_s or pageable_down, down.latency_s),
            "read": (read, drives.spec.read_latency_s if drives else 0.0),
            "write": (write, drives.spec.write_latency_s if drives else 0.0),
        }

    def _group(self, shape: int) -> LayerGroup:
        return self._architecture.groups[shape]

    def _shape(self, shape: int) -> AttentionShape:
        return self._shapes[self._group(shape).attention]

    def _linear_s(self, kind: str, shape: int, sequences: float, new_tokens: int) -> float:
        tokens = float(sequences * new_tokens)
        measured = self._rates.decode_matrix_flop_per_s if new_tokens == 1 else self._rates.prefill_matrix_flop_per_s
        total = 0.0
        for operator in self._operators(kind, shape, sequences, tokens):
            if not isinstance(operator.op, DeviceOp):
                continue
            seconds = self._seconds(operator.op)
            if isinstance(operator.op, Gemm) and measured is not None:
                seconds = max(seconds, float(operator.op.flop) / measured)
            total += seconds * operator.count
        return total

    def _operators(self, kind: str, shape: int, sequences: float, tokens: float) -> list[Operator]:
        model = self._architecture
        if kind == "head":
            return head_operators(model, float(sequences), 1, self._dtypes)
        write = LayerOperators(
            hidden=model.hidden_size,
            tokens=tokens,
            tp=1,
            dtypes=self._dtypes,
            experts_dtype=dict(model.stored_dtypes).get("experts", self._dtypes.weight),
            rotary=model.rotary,
        )
        norm = Elementwise(
            elements=tokens * model.hidden_size, reads=2, writes=2, dtype=self._dtypes.residual, flop_per_element=6
        )
        if kind == "embedding":
            return [Operator("embedding", norm, 1)]
        group = self._group(shape)
        parts = write.attention(group.attention) if kind == "attention" else write.mlp(group.mlp)
        return [Operator("norm", norm, model.norms_per_layer / 2.0), *parts]

    def _attention_s(self, shape: int, sequences: float, new_tokens: int, context_tokens: int) -> float:
        of, rates = self._shape(shape), self._rates
        if new_tokens == 1 and context_tokens > 1:
            decode = of.decode_op(sequences=sequences, kv_tokens=sequences * context_tokens, dtypes=self._dtypes)
            if (rate := rates.decode_attention_flop_per_s) is not None:
                return float(decode.flop) / rate
            return self._seconds(decode)
        pairs = sequences * new_tokens * (new_tokens + 1) / 2.0
        tokens = float(sequences * new_tokens)
        prefill = of.prefill_op(pairs=pairs, queries=tokens, kv_tokens=tokens, sequences=sequences, dtypes=self._dtypes)
        if (rate := rates.prefill_attention_flop_per_s) is not None:  # of all pairs, as frameworks without a mask count
            return 2.0 * float(prefill.flop) / rate
        return self._seconds(prefill)

    def _seconds(self, op: DeviceOp) -> float:
        return float(self._device.price(op).seconds)
