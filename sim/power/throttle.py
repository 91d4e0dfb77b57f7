"""Power-limit throttling as the hardware does it: the clock falls until a step's watts fit below the limit.

The watts are those of the energy account, in scalars since every step asks. Launches of attention kernels count as
busy here, which can only lower the clock. At one clock a step's joules are linear in what it computes on, and in which
step of a run it is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np

from hardware_models.power import power_model
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.deployment import Deployment
from sim.serving.energy import SAMPLING_S_PER_SEQUENCE, flop_per_row
from sim.serving.step_cost import StageCost
from workloads.models.operators import attention_shapes, split_layers

STEPS = 64  # of the boost clock, between which a clock is sought; NVIDIA's are 15 MHz apart, 1 % of boost
LOWEST = 10  # of these: no device is locked much below 200 MHz

PerKey = tuple[float, float, float]  # joules: a key that decodes see, a pair of prompts, a key that prompts see


class Excess:
    """Joules of a step on a GPU beyond what the limit allows in its time, at one clock."""

    def __init__(self, stage: StageCost, rates: Rates) -> None:
        self._stage, self._rates = stage, rates
        self._of_rows: list[float] = []  # what everything but attention adds, over steps that only take their time:
        self._of_samples: list[float] = []  # of so many rows, and of so many sampled rows
        self._step_j, self._per_second = rates.step_j, rates.per_second
        self._a_key, self._a_pair, self._a_prompt_key = rates.plain

    def joules(self, seconds: float, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> float:
        """Of the next step, which takes so long; above 0: it does not fit."""
        tokens, samples = load.tokens, decodes + padding
        rows = tokens + samples
        samples += load.chunks
        if rows >= len(self._of_rows) or samples >= len(self._of_samples):
            self._tabulate()
        found = self._of_rows[rows] + self._of_samples[samples] + self._step_j + self._per_second * seconds
        if decodes:
            found += self._a_key * (pool.context + decodes)
        if tokens:
            found += self._a_pair * load.pairs + self._a_prompt_key * load.context
        if self._rates.windowed is not None:
            a_key, a_pair, a_prompt_key = self._rates.windowed
            if decodes:
                found += a_key * (pool.window_context + pool.window_growth)
            found += a_pair * load.window_pairs + a_prompt_key * load.window_context
        return found

    def growth(self, slope_s: float, load: ChunkLoad, decodes: int, pool: DecodePool) -> float:
        """By how much it grows from one step of a run to the next, which takes slope_s longer."""
        rates, new = self._rates, load.tokens
        found = rates.per_second * slope_s + rates.plain[0] * decodes
        found += rates.plain[1] * new * new + rates.plain[2] * new
        if rates.windowed is not None:
            a_key, a_pair, a_prompt_key = rates.windowed
            if decodes:
                found += a_key * pool.window_growth
            if load.before < load.window - 1:
                found += a_pair * new * new + a_prompt_key * new
        return found

    def _tabulate(self) -> None:
        """As far as the step was priced, which it always is first."""
        rates, (body, head) = self._rates, self._stage.rows.launches_and_reads()
        for found, (launch_s, read), each_j in (
            (self._of_rows, body, rates.row_j),
            (self._of_samples, head, rates.sample_j),
        ):
            found[:] = (rates.byte_j * read + each_j * np.arange(len(read)) - rates.busy_w * launch_s).tolist()


class Rates:
    """What draws how much on one GPU of pipeline stage `index` of a replica at one clock."""

    def __init__(self, deployment: Deployment, index: int, limit_w: float, clock: float) -> None:
        gpu, architecture, dtypes = deployment.gpu, deployment.architecture, deployment.dtypes
        stages = deployment.stages_at(clock)
        stage, tp = stages[index], deployment.gpus_per_replica // len(stages)
        layers = split_layers(architecture.num_layers, len(stages))[index]
        watts = power_model(gpu).step_demand
        awake_w = watts(0.0, 0.0, 0.0, clock)
        self.busy_w = watts(1.0, 0.0, 0.0, clock) - awake_w
        flop_j = (watts(0.0, 1.0, 0.0, clock) - awake_w) / gpu.peak_flop_per_s[dtypes.activation]
        self.byte_j = (watts(0.0, 0.0, 1.0, clock) - awake_w) / gpu.memory_bandwidth_bytes_per_s
        self.per_second = awake_w + self.busy_w - limit_w
        row_flop, sample_flop = flop_per_row(architecture, layers, tp)
        if layers.stop < layers.total:  # another stage has the output head
            sample_flop = 0.0
        own_s = stage.host_s_per_sequence - min(stage.host_s_per_sequence, SAMPLING_S_PER_SEQUENCE)
        self.row_j = flop_j * row_flop
        self.sample_j = flop_j * sample_flop - self.busy_w * own_s
        self.step_j = -self.busy_w * stage.host_s_per_step
        sums = {False: [0.0, 0.0, 0.0], True: [0.0, 0.0, 0.0]}
        for shape in attention_shapes(architecture, tp, layers):
            decode = shape.decode_op(sequences=1.0, kv_tokens=1.0, dtypes=dtypes)
            prefill = shape.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, dtypes=dtypes)
            of = sums[bool(shape.window)]
            of[0] += shape.layers * float(flop_j * decode.flop + self.byte_j * decode.stored_bytes)
            of[1] += shape.layers * float(flop_j * prefill.flop)
            of[2] += shape.layers * float(self.byte_j * prefill.stored_bytes)
        self.plain: PerKey = (sums[False][0], sums[False][1], sums[False][2])
        self.windowed: PerKey | None = (sums[True][0], sums[True][1], sums[True][2]) if any(sums[True]) else None


class Throttle:
    """Of the GPUs of one pipeline stage of replicas."""

    def __init__(self, deployment: Deployment, limit_w: float, index: int = 0) -> None:
        self._deployment, self._limit_w, self._index = deployment, limit_w, index
        self._at: dict[float, Excess] = {}
        self._last = STEPS  # the clock found last, of these steps

    def at(self, clock: float) -> Excess:
        """What steps draw too much at a clock."""
        found = self._at.get(clock)
        if found is None:
            stage = self._deployment.stages_at(clock)[self._index]
            found = self._at[clock] = Excess(stage, Rates(self._deployment, self._index, self._limit_w, clock))
        return found

    def clock(self, most: float, fits: Callable[[float], bool]) -> tuple[float, float]:
        """The highest clock below `most` at which a step stays within the limit, the lowest where none does; and the
        one above it. Watts rise with the clock, so that the search may begin at the clock found last.
        """
        low, high = LOWEST, ceil(most * STEPS) - 1  # the clock sought is the last that fits of these
        if low > high:
            return most, most
        top = high
        if low < high:
            guess = min(max(self._last, low + 1), high)
            if fits(guess / STEPS):
                low = guess
                if low < high and not fits((low + 1) / STEPS):
                    high = low
            else:
                high = guess - 1
                if low < high and fits(high / STEPS):
                    low = high
        while low < high:
            middle = (low + high + 1) // 2
            if fits(middle / STEPS):
                low = middle
            else:
                high = middle - 1
        self._last = low
        return low / STEPS, most if low == top else (low + 1) / STEPS
