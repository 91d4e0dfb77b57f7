"""The least seconds that requests take of a replica, whatever the scheduler does: work that no batching can avoid.

Prompt and decoded tokens at the prices of `sim.plan.token_prices`, attention of prompts at peak arithmetic. A sequence
that is put off and recomputed gets its next token from a prompt, not from a decode step; each decoded token therefore
counts as the cheaper of the two, wherever KV blocks can run out.
"""

from __future__ import annotations

import copy
import math

import numpy as np
from numpy.typing import NDArray

from hardware_models.device import Device
from hardware_models.errors import ImpossibleError
from hardware_models.ops import Gemm, GroupedGemm
from policies.serving import BatchScheduler, blocks_for
from policies.serving.chunked_prefill import ChunkedPrefill
from policies.serving.prefill_first import PrefillFirst
from policies.serving.sarathi import Sarathi
from policies.serving.static import Static
from sim.plan.step_floor import StageFloor, StepLimits
from sim.plan.token_prices import TokenPrices, token_prices
from sim.scenario import Scenario
from sim.serving.deployment import Deployment, deploy
from sim.serving.simulate import make_scheduler
from workloads.models.operators import LayerRange, attention_shapes, split_layers, token_operators
from workloads.request import RequestTable

Floats = NDArray[np.float64]


class RequestWork:
    """Of each request, on each pipeline stage of one replica."""

    def __init__(self, scenario: Scenario, requests: RequestTable) -> None:
        """Raises FleetcastError for an impossible deployment, DoesNotFitError for one too large."""
        if scenario.serving.enable_prefix_caching:
            raise ImpossibleError(
                "serving.enable_prefix_caching: plans and searches for a capacity count whole prompts as work, which a"
                " prefix cache spares; leave it out, or sweep workload.rate_scale"
            )
        if scenario.power is not None and scenario.power.scaler is not None:
            raise ImpossibleError(
                "power.scaler: plans and searches for a capacity count replicas that all serve; leave it out, or sweep"
                " serving.replicas"
            )
        self.deployment = deployment = deploy(scenario)
        scheduler = make_scheduler(scenario, deployment)
        self._scheduler, self.requests = scheduler, requests
        self.held = _held(requests, scheduler, deployment)
        prompt, output = requests.prompt_tokens, requests.output_tokens
        self._limits = limits = _step_limits(scenario, scheduler, deployment, requests)
        most_blocks = scenario.serving.max_num_seqs * blocks_for(limits.longest, deployment.limits.block_size)
        self._recomputes = scheduler.grows_by_block and deployment.limits.kv_blocks < most_blocks
        self._floors = [
            StageFloor(stage, limits, _peak_row_s(deployment, i)) for i, stage in enumerate(deployment.stages)
        ]
        decoded = (output - 1)[self.held]
        context = _context(prompt, output)[self.held]
        totals = float(prompt[self.held].sum()), float(decoded.sum()), float(context.sum())
        self._all = [token_prices(floor, *totals) for floor in self._floors]
        self._prompts = [token_prices(floor, totals[0], 0.0, 0.0) for floor in self._floors]
        self._pairs_s = [_pair_s(deployment, i) for i in range(len(deployment.stages))]

    def on(self, requests: RequestTable) -> RequestWork | None:
        """The same prices for other requests; None where some are longer than those the prices were made for."""
        if int((requests.prompt_tokens + requests.output_tokens).max()) > self._limits.longest:
            return None
        other = copy.copy(self)
        other.requests, other.held = requests, _held(requests, self._scheduler, self.deployment)
        return other

    def prompt_s(self) -> Floats:
        """Of each request's prompt on each stage: (stages, requests)."""
        prompt = self.requests.prompt_tokens
        work = [
            prices.per_prompt_token * prompt + self._attention_s(stage) for stage, prices in enumerate(self._prompts)
        ]
        return np.where(self.held, np.array(work), 0.0)

    def request_s(self) -> Floats:
        """Of each whole request on each stage: (stages, requests)."""
        prompt, output = self.requests.prompt_tokens, self.requests.output_tokens
        work = [
            prices.per_prompt_token * prompt + self._attention_s(stage) + self._decode_s(prices, prompt, output)
            for stage, prices in enumerate(self._all)
        ]
        return np.where(self.held, np.array(work), 0.0)

    def _attention_s(self, stage: int) -> Floats:
        """Of each prompt's (query, key) pairs, at peak arithmetic."""
        prompt, window = self.requests.prompt_tokens.astype(float), self.deployment.limits.window
        full_s, windowed_s = self._pairs_s[stage]
        seconds = full_s * prompt * (prompt + 1.0) / 2.0
        if windowed_s:
            inside = np.minimum(prompt, window)
            seconds = seconds + windowed_s * (inside * (inside + 1.0) / 2.0 + (prompt - inside) * window)
        return np.asarray(seconds)

    def _decode_s(self, prices: TokenPrices, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> Floats:
        """Of the tokens after the first: each with a context of the prompt, the tokens before it and itself."""
        decoded, window = (output - 1).astype(float), self.deployment.limits.window
        seconds = prices.per_decoded_token * decoded + prices.per_context_token * _context(prompt, output)
        if prices.per_window_token:
            seconds = seconds + prices.per_window_token * _window_context(prompt, output, window)
        if not self._recomputes:
            return np.asarray(seconds)
        return np.minimum(seconds, self._recomputed_s(prices, prompt, output))

    def _recomputed_s(self, prices: TokenPrices, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> Floats:
        """The same, each token the cheaper of decoded and recomputed with everything before it.

        Decoded at a context c it costs b + k c, recomputed a c: the cheaper is the latter up to c = b / (a - k). The
        window's part, which only adds to the first, is left out.
        """
        a, b, k = prices.per_prompt_token, prices.per_decoded_token, prices.per_context_token
        crossing = b / (a - k) if a > k else math.inf
        early = np.clip(np.ceil(crossing) - (prompt + 1.0), 0.0, output - 1.0)  # tokens cheaper to recompute
        early_context = early * prompt + early * (early + 1.0) / 2.0
        late_context = _context(prompt, output) - early_context
        return np.asarray(a * early_context + b * (output - 1.0 - early) + k * late_context)

    def alone_s(self) -> tuple[Floats, float]:
        """Least TTFT of each request, (requests,), and the least gap between tokens, on an idle replica."""
        prompt = self.requests.prompt_tokens
        chunks = np.ones(len(prompt))
        if isinstance(self._scheduler, ChunkedPrefill):
            chunks = np.ceil(prompt / self._scheduler.max_num_batched_tokens)
        elif isinstance(self._scheduler, Sarathi):
            chunks = np.ceil(prompt / self._scheduler.chunk_size)
        shortest = [(floor.shortest_s(1, 0), floor.shortest_s(0, 1)) for floor in self._floors]
        ttft = np.maximum(chunks * sum(p for p, _ in shortest), self.prompt_s().sum(axis=0))
        return np.asarray(ttft), sum(min(pair) for pair in shortest)

    def load(self) -> float:
        """Seconds of work, at least, that arrive a second up to the last request: above the number of replicas, some of
        it waits when that arrives.
        """
        arrival = self.requests.arrival_s
        span = float(arrival[-1] - arrival[0])
        return float(self.request_s()[:, :-1].sum(axis=1).max()) / span if span > 0 else 0.0


def _held(requests: RequestTable, scheduler: BatchScheduler, deployment: Deployment) -> NDArray[np.bool_]:
    """Requests that an engine does not turn away for their length; of those it does, some may count as held."""
    longest = requests.prompt_tokens + requests.output_tokens
    blocks = -(-(longest - 1) // deployment.limits.block_size)
    held = blocks <= deployment.limits.kv_blocks
    if scheduler.max_model_len:
        held &= longest <= scheduler.max_model_len
    return np.asarray(held)


def _step_limits(
    scenario: Scenario, scheduler: BatchScheduler, deployment: Deployment, requests: RequestTable
) -> StepLimits:
    """What each scheduler may put into a step; one that is not known here may put everything."""
    longest = int((requests.prompt_tokens + requests.output_tokens).max())
    kv_tokens = deployment.limits.kv_blocks * deployment.limits.block_size
    seats = scenario.serving.micro_batch_seqs
    decodes = max(1, min(seats, deployment.limits.kv_blocks))
    rows, mixes = min(seats * longest, kv_tokens + seats), True
    if isinstance(scheduler, ChunkedPrefill):
        rows = scheduler.max_num_batched_tokens
    elif isinstance(scheduler, Sarathi):
        rows = scheduler.chunk_size + decodes
    elif isinstance(scheduler, PrefillFirst):
        rows, mixes = max(scheduler.max_num_batched_tokens, longest, decodes), False
    elif isinstance(scheduler, Static):
        mixes = False
    return StepLimits(max(rows, decodes), decodes, mixes, kv_tokens, longest)


def _context(prompt: NDArray[np.int64], output: NDArray[np.int64]) -> Floats:
    """Contexts of all tokens after the first, summed, of each request."""
    decoded = (output - 1).astype(float)
    return np.asarray(decoded * prompt + decoded * (decoded + 1.0) / 2.0)


def _window_context(prompt: NDArray[np.int64], output: NDArray[np.int64], window: int) -> Floats:
    """The same, each capped at a window."""
    decoded = (output - 1).astype(float)
    inside = np.clip(window - prompt, 0.0, decoded)  # tokens that see less than the window
    return np.asarray(inside * prompt + inside * (inside + 1.0) / 2.0 + (decoded - inside) * window)


def _peak_row_s(deployment: Deployment, stage: int) -> float:
    """Seconds that the matrix products of one row take at peak arithmetic."""
    device, dtypes = Device(deployment.gpu), deployment.dtypes
    layers = _layers(deployment, stage)
    operators = token_operators(deployment.architecture, 1.0, _ranks(deployment), layers, dtypes)
    return float(
        sum(
            o.count * float(np.asarray(o.op.flop)) / device.peak_flop_per_s(o.op.dtype)
            for o in operators
            if isinstance(o.op, Gemm | GroupedGemm)
        )
    )


def _pair_s(deployment: Deployment, stage: int) -> tuple[float, float]:
    """Seconds of a (query, key) pair of prompts at peak arithmetic: in layers that see everything, and windowed."""
    device, full, windowed = Device(deployment.gpu), 0.0, 0.0
    for shape in attention_shapes(deployment.architecture, _ranks(deployment), _layers(deployment, stage)):
        op = shape.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, dtypes=deployment.dtypes)
        seconds = shape.layers * float(np.asarray(op.flop)) / device.peak_flop_per_s(op.dtype)
        full, windowed = (full, windowed + seconds) if shape.window else (full + seconds, windowed)
    return full, windowed


def _layers(deployment: Deployment, stage: int) -> LayerRange:
    return split_layers(deployment.architecture.num_layers, len(deployment.stages))[stage]


def _ranks(deployment: Deployment) -> int:
    return deployment.gpus_per_replica // len(deployment.stages)
