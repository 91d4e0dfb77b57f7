"""Writes steps of a model whose neurons are read from a drive by need (LLM in a flash), one thing after another."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.offload.block_plan import TIERS, Job, Part, Tier
from policies.offload.block_tasks import PREFILL, Moved, Turn, TurnTasks
from policies.offload.expert_plan import Worker
from policies.offload.flash_plan import FlashPlan
from policies.offload.worker_prices import WorkerPrices
from policies.task_graph import NO_STREAM, TaskGraph
from workloads.generators.expert_activation import ExpertActivation, Scores

PIECES = 4  # that one read is cut in, to be copied on
Mask = NDArray[np.bool_]


class NeuronPrices(WorkerPrices, Protocol):
    """Seconds of MLPs by the neurons that are computed."""

    def whole_s(self, part: Part, new_tokens: int, context_tokens: int, worker: Worker) -> float:
        """Of all of a part for one sequence."""

    def neurons_s(self, part: Part, neurons: int, worker: Worker) -> float:
        """Of so many neurons for one token."""

    def predictor_s(self, part: Part, rank: int, worker: Worker) -> float:
        """Of two products of low rank that name a token's neurons."""

    def place_s(self, size_bytes: float, worker: Worker) -> float:
        """Of moving rows within the worker's memory."""


class FlashGraph(TurnTasks):
    """Writes steps of one sequence; the window lives as long as the writer."""

    def __init__(self, job: Job, plan: FlashPlan, prices: NeuronPrices, seed: int) -> None:
        super().__init__(job, plan, prices)
        self._flash, self._workers = plan, prices
        self._placed = [dict.fromkeys(TIERS, 0.0) for _ in job.parts]
        mlps = [number for number, part in enumerate(job.parts) if part.neurons]
        self._layer = {number: layer for layer, number in enumerate(mlps)}
        self._neurons = job.parts[mlps[0]].neurons
        self._activation = ExpertActivation(plan.law, len(mlps), self._neurons, 1, seed)
        self._window: list[deque[Mask]] = [deque(maxlen=max(1, plan.window_tokens)) for _ in mlps]

    def build(self, steps: list[int]) -> TaskGraph:
        """The graph of these steps of the job (0: the prompt), as if they followed each other."""
        resident = self._resident()
        self._gate = [resident]
        for step in steps:
            scores = self._next(step) if self._flash.predictor else None
            for number in range(len(self._job.parts)):
                turn = Turn(step, number, 0)
                if scores is not None and number in self._layer:
                    self._by_need(turn, scores)
                else:
                    self._whole(turn)
            self._end_step(self._computed[-1])
        last = self.graph.add(NO_STREAM, 0.0, "end", self._computed[-1:])
        for number, layer in self._layer.items():
            if self._window[layer]:
                self._give_neurons(last, int(self._held(layer).sum()), self._job.parts[number])
        self._end(resident)
        return self.graph

    def resident_bytes(self, tier: Tier) -> dict[str, float]:
        """What is kept with the worker, and the whole model on drives."""
        plan, job = self._flash, self._job
        if tier == "storage":
            return {"weights": job.weight_bytes}
        if tier != plan.near:
            return {"weights": 0.0}
        return {
            "weights": job.weight_bytes * (plan.weights.gpu + plan.weights.host),
            "kv_cache": job.kv_bytes * job.kv_tokens,
            "activations": job.hidden_bytes * job.prompt_tokens,
        }

    def _next(self, step: int) -> Scores:
        """Of the tokens that a step adds to the window; of a prompt, its last."""
        tokens = min(self._job.prompt_tokens, max(1, self._flash.window_tokens)) if step == PREFILL else 1
        return self._activation.next(tokens)

    def _held(self, layer: int) -> Mask:
        return np.asarray(np.logical_or.reduce(list(self._window[layer])))

    def _remember(self, layer: int, scores: Scores) -> None:
        count = max(1, round(self._flash.active_fraction * self._neurons))
        for token in scores:
            active = np.zeros(self._neurons, dtype=bool)
            active[np.argpartition(token, -count)[-count:]] = True
            self._window[layer].append(active)

    def _context(self, turn: Turn) -> tuple[int, int]:
        new = self._job.prompt_tokens if turn.step == PREFILL else 1
        return new, self._job.prompt_tokens + turn.step

    def _whole(self, turn: Turn, share: float | None = None) -> int:
        """All of a part: what is not kept is read first."""
        part = self._job.parts[turn.part]
        if share is None:
            share = 0.0 if self._flash.predictor else 1.0 - self._flash.kept_fraction
        passing = share * part.weight_bytes
        before = self._computed[-1:]
        if passing:
            before = self._read(turn, passing, self._prices.copy_s("read", passing), before)
            self.graph.acquire(before[0], self._pool[self._flash.near], passing, "weights passing")
        seconds = self._workers.whole_s(part, *self._context(turn), self._flash.worker)
        task = self._task(self._engine, seconds, "compute", before, turn)
        if passing:
            self.graph.release(task, self._pool[self._flash.near], passing, "weights passing")
        self._computed.append(task)
        return task

    @property
    def _engine(self) -> str:
        return "gpu" if self._flash.worker == "gpu" else "cpu"

    def _read(self, turn: Turn, size_bytes: float, seconds: float, after: list[int]) -> list[int]:
        """From the drive to the worker, to a GPU in pieces, copied while the next are read; what to wait for."""
        pieces = PIECES if self._flash.worker == "gpu" else 1
        last: list[int] = []
        for _ in range(pieces):
            read = self._task("drives", seconds / pieces, "load_weight", after, turn)
            self.moved.append(Moved(read, "read", size_bytes / pieces))
            last = [read]
            if self._flash.worker == "gpu":
                self.graph.acquire(read, self._pool["host"], size_bytes / pieces, "staging")
                last = [self._add("h2d", size_bytes / pieces, "load_weight", last, turn)]
                self.graph.release(last[0], self._pool["host"], size_bytes / pieces, "staging")
        return last

    def _by_need(self, turn: Turn, scores: Scores) -> None:
        """An MLP: name its neurons, read those that no recent token had, make room for them, compute all that is held.

        A prompt reads and computes all, and leaves those of its last tokens.
        """
        part, layer, worker = self._job.parts[turn.part], self._layer[turn.part], self._flash.worker
        if turn.step == PREFILL:
            task = self._whole(turn, 1.0)
            self._remember(layer, scores[:, layer])
            self._take_neurons(task, int(self._held(layer).sum()), part)
            return
        before = self._held(layer)
        self._remember(layer, scores[:, layer])
        active, held = self._window[layer][-1], self._held(layer)
        reused = before if self._flash.window_tokens else np.zeros_like(before)
        new, size = int((active & ~reused).sum()), part.weight_bytes / part.neurons
        named_s = self._workers.predictor_s(part, self._flash.predictor_rank, worker)
        task = self._task(self._engine, named_s, "compute", self._computed[-1:], turn)
        if new:
            pieces = 1 if self._flash.bundled else part.matrices
            seconds = self._workers.chunks_s(new * size, size / pieces, self._flash.threads)
            there = self._read(turn, new * size, seconds, [task])
            task = self._task(self._engine, self._workers.place_s(new * size, worker), "compute", there, turn)
            self._take_neurons(there[0], new, part)
        self.counts["neurons read"] += new
        self.counts["neurons named"] += int(active.sum())
        self.counts["neurons computed"] += int(held.sum())
        task = self._task(self._engine, self._workers.neurons_s(part, int(held.sum()), worker), "compute", [task], turn)
        self._give_neurons(task, int(before.sum()) + new - int(held.sum()), part)
        self._computed.append(task)

    def _take_neurons(self, task: int, neurons: int, part: Part) -> None:
        size = neurons * part.weight_bytes / part.neurons
        self.graph.acquire(task, self._pool[self._flash.near], size, "neurons")

    def _give_neurons(self, task: int, neurons: int, part: Part) -> None:
        if size := neurons * part.weight_bytes / part.neurons:
            self.graph.release(task, self._pool[self._flash.near], size, "neurons")
