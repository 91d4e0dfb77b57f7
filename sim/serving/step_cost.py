"""What one step costs on one pipeline stage: tables for everything that depends on row counts, affine terms for
attention.

Built once a model and device from operator prices; then pricing a batch is a few additions, and so is saying how its
time grows as contexts grow, and for how many steps that growth stays the same.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import AttentionDecode, AttentionPrefill
from policies.serving import UNLIMITED
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.row_costs import RowCosts


@dataclass(frozen=True, slots=True)
class AttentionCost:
    """Seconds of one group of equal layers: launch_s + max(compute, memory), each linear in sums over the batch."""

    windowed: bool
    launch_s: float
    compute_s_per_pair: float  # decode: pairs are KV tokens
    memory_s_per_kv_token: float
    memory_s_per_query: float

    @classmethod
    def of(cls, device: Device, layers: int, unit: AttentionPrefill | AttentionDecode, windowed: bool) -> AttentionCost:
        """From an operator of one pair, one query and one KV token a layer (no cost is hidden in between: all is
        linear).
        """
        price = device.price(unit)
        width = unit.heads * (unit.qk_dim + unit.v_dim)
        query_share = width * bytes_per_element(unit.dtype) / float(unit.moved_bytes)
        memory = layers * float(price.memory_s)
        return cls(
            windowed,
            layers * float(price.launch_s),
            layers * float(price.compute_s),
            memory * (1.0 - query_share),
            memory * query_share,
        )


class StageCost:
    """Prices steps of one pipeline stage of a model on a device."""

    def __init__(
        self,
        rows: RowCosts,
        decode: list[AttentionCost],
        prefill: list[AttentionCost],
        window: int,
        host_s_per_step: float,
        host_s_per_sequence: float,
        eager_floor_s: float,
        decode_floor_s: float,
    ) -> None:
        self.rows = rows
        self.decode = decode
        self.prefill = prefill
        self.window = window
        self.host_s_per_step = host_s_per_step
        self.host_s_per_sequence = host_s_per_sequence
        self.eager_floor_s = eager_floor_s  # launching every kernel of a step from the host, one by one
        self.decode_floor_s = decode_floor_s  # the same for a decode-only step (captured as a graph, or not)
        self._decode_terms = [astuple(part) for part in decode]
        self._linear, self._head = rows.linear_s, rows.head_s  # lists: (rows,) and (samples,), seconds

    def price(self, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> tuple[float, float, int]:
        """Seconds of the next step, how many more each following one takes, and for how many steps that holds.

        load: the step's chunks (for a step to repeat there is at most one, which moves on through its prompt).
        decodes, padding: decoding sequences, and finished ones whose rows are still computed.
        """
        samples = decodes + padding
        rows = load.tokens + samples
        samples += load.chunks
        if rows >= len(self._linear) or samples >= len(self._head):
            self.rows.grow(rows, samples)
        seconds = self._linear[rows] + self._head[samples]
        slope, steps = 0.0, UNLIMITED
        if decodes:
            for windowed, launch_s, pair_s, token_s, query_s in self._decode_terms:
                if windowed:
                    growth = pool.window_growth
                    context = pool.window_context + growth
                else:
                    growth = decodes
                    context = pool.context + decodes
                compute = pair_s * context
                memory = token_s * context + query_s * decodes
                if compute > memory:
                    seconds += launch_s + compute
                    slope += pair_s * growth
                else:
                    seconds += launch_s + memory
                    slope += token_s * growth
                    if pair_s > token_s and growth:
                        steps = min(steps, _steps_before(memory - compute, (pair_s - token_s) * growth))
        if load.tokens:
            for part in self.prefill:
                more, more_slope, valid = self._price_chunks(part, load)
                seconds += more
                slope += more_slope
                steps = min(steps, valid)
        floor = self.eager_floor_s if load.tokens else self.decode_floor_s
        if seconds < floor:
            if slope > 0.0:
                steps = min(steps, _steps_before(floor - seconds, slope))
            seconds, slope = floor, 0.0
        return seconds + self.host_s_per_step + self.host_s_per_sequence * samples, slope, steps

    def _price_chunks(self, part: AttentionCost, load: ChunkLoad) -> tuple[float, float, int]:
        new, steps = load.tokens, UNLIMITED
        if part.windowed:
            pairs, context = load.window_pairs, load.window_context
            if load.chunks == 1 and load.before >= self.window - 1:
                pair_growth, context_growth = 0, 0
            else:
                pair_growth, context_growth = new * new, new
                steps = max(1, (self.window - load.before) // new) if load.chunks == 1 else 1
        else:
            pairs, context = load.pairs, load.context
            pair_growth, context_growth = new * new, new
        compute = part.compute_s_per_pair * pairs
        memory = part.memory_s_per_kv_token * context + part.memory_s_per_query * new
        compute_slope = part.compute_s_per_pair * pair_growth
        memory_slope = part.memory_s_per_kv_token * context_growth
        if compute > memory:
            if memory_slope > compute_slope:
                steps = min(steps, _steps_before(compute - memory, memory_slope - compute_slope))
            return part.launch_s + compute, compute_slope, steps
        if compute_slope > memory_slope:
            steps = min(steps, _steps_before(memory - compute, compute_slope - memory_slope))
        return part.launch_s + memory, memory_slope, steps


def _steps_before(lead: float, closing: float) -> int:
    """Steps, this one included, until a gap of `lead` that closes by `closing` a step is gone."""
    return int(lead / closing) + 1
