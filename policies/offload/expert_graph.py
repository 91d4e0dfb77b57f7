"""Writes steps of a model whose experts are loaded by need: hits, misses, copies and who computes what, as tasks."""

from __future__ import annotations

from collections.abc import Iterable

from hardware_models.errors import ImpossibleError
from policies.offload.block_plan import TIERS, Job, Part, Route, Tier
from policies.offload.block_tasks import PREFILL, Moved, Turn, TurnTasks
from policies.offload.expert_cache import CACHES
from policies.offload.expert_plan import ExpertPlan, routed_parts, with_vocabulary
from policies.offload.expert_schedule import LayerSchedule, LayerTimes, schedule
from policies.offload.worker_prices import WorkerPrices
from policies.task_graph import NO_STREAM, TaskGraph
from workloads.generators.expert_activation import ExpertActivation, Scores, loads

MOST_SCORES = 2e8  # of a prompt's step: tokens by layers and experts


class ExpertGraph(TurnTasks):
    """Writes steps of one batch, one after the other; caches live as long as the writer.

    The CPU reads what it needs and writes its results over the link itself, small beside an expert's copy.
    """

    def __init__(self, job: Job, plan: ExpertPlan, prices: WorkerPrices, seed: int) -> None:
        job = with_vocabulary(job, plan.vocabulary_bytes)
        self._routed = [one for _, one in routed_parts(job)]
        self._layer: dict[int, int] = {}  # part -> its number among those with experts
        for number, part in enumerate(job.parts):
            if part.routed is not None:
                self._layer[number] = len(self._layer)
        super().__init__(job, plan, prices)
        self._placed = [dict.fromkeys(TIERS, 0.0) for _ in job.parts]  # nothing but experts moves
        self._experts, self._workers = plan, prices
        widest = max(one.experts for one in self._routed)
        _check_scores(plan.sequences, job.prompt_tokens, len(self._layer), widest)
        self._activation = ExpertActivation(plan.law, len(self._layer), widest, plan.sequences, seed)
        self._slots = CACHES[plan.eviction](plan.slots, self._activation.popularity)
        self._arriving: dict[tuple[int, int], int] = {}  # (layer, expert) -> the copy that brings it ahead of time
        self._passing: set[int] = set()  # copies whose experts have no slot
        self._link_busy_s = 0.0  # from the next router's end, as planned

    def build(self, steps: list[int]) -> TaskGraph:
        """The graph of these steps of the job (0: the prompt), as if they followed each other."""
        resident = self._resident()
        self._gate = [resident]
        for step in steps:
            scores = self._activation.next(self._job.prompt_tokens if step == PREFILL else 1)
            for number in range(len(self._job.parts)):
                turn = Turn(step, number, 0)
                if number in self._layer:
                    self._route(turn, scores)
                elif self._experts.worker == "cpu":
                    self._compute_on_cpu(turn)
                else:
                    self._weights[step, number] = []
                    self._compute(turn)
            self._end_step(self._computed[-1])
        self._end(resident)
        return self.graph

    def resident_bytes(self, tier: Tier) -> dict[str, float]:
        """All but experts with the worker, beside slots for some; all experts at home."""
        plan, job = self._experts, self._job
        every = sum(one.experts * one.expert_bytes for one in self._routed)
        found = dict.fromkeys(("weights", "kv_cache", "activations"), 0.0)
        if tier == plan.near:
            found["weights"] = job.weight_bytes - every
            found["kv_cache"] = job.kv_bytes * job.kv_tokens * plan.sequences
            found["activations"] = job.hidden_bytes * job.prompt_tokens * plan.sequences
            found["cached experts"] = plan.slots * self._routed[0].expert_bytes
        if tier == plan.home:
            found["experts"] = every
        return found

    def _tokens(self, turn: Turn) -> int:
        return self._plan.sequences * (self._job.prompt_tokens if turn.step == PREFILL else 1)

    def _compute_on_cpu(self, turn: Turn) -> None:
        """A part without experts."""
        new = self._job.prompt_tokens if turn.step == PREFILL else 1
        context = self._job.prompt_tokens + turn.step
        seconds = self._workers.cpu_part_s(self._job.parts[turn.part], self._plan.sequences, new, context)
        self._finish(turn, self._task("cpu", seconds, "compute", self._computed[-1:], turn))

    def _finish(self, turn: Turn, task: int) -> None:
        self._computed.append(task)
        self._done[turn] = task

    def _route(self, turn: Turn, scores: Scores) -> None:
        """One layer: the router speaks, experts are found, copied or computed where they are, and all is summed."""
        part, layer = self._job.parts[turn.part], self._layer[turn.part]
        worker, tokens = self._experts.worker, self._tokens(turn)
        visits = loads(scores[:, layer], self._routed[layer].top_k)
        self._slots.note(layer, visits, scores[:, layer])
        shared_s = self._workers.shared_s(part, tokens, worker)
        plan = self._plan_layer(part, layer, visits, set(), shared_s, self._link_busy_s)
        self._count(turn, visits, plan)
        self._slots.pinned[layer] = False
        self._slots.pinned[layer, list(visits)] = True
        before = self._computed[-1:]
        router_s = self._workers.router_s(part, tokens, worker)
        routed = self._task(self._engine, router_s, "compute", before, turn)
        early = self._computed[-2:-1] if self._experts.early_router else [routed]
        end = self.graph.add(NO_STREAM, 0.0, "combine", self._run(turn, plan, visits, routed, early, shared_s))
        self._drop(layer, end)
        self._slots.pinned[layer] = False
        self._fill_link(turn, scores, plan, routed)
        self._workspace(routed, end, part)
        self._finish(turn, end)

    def _plan_layer(
        self, part: Part, layer: int, visits: dict[int, int], more: set[int], gpu_s: float = 0.0, link_s: float = 0.0
    ) -> LayerSchedule:
        """Who computes a layer's experts; more: as if they were there too."""
        worker = self._experts.worker
        here = more | {one for one in visits if self._slots.has(layer, one) or (layer, one) in self._arriving}
        times = LayerTimes(
            lambda count: self._on_cpu_s(part, count),
            lambda count: self._workers.expert_s(part, count, worker),
            self._carry_s(layer),
            gpu_s,
            link_s,
        )
        return schedule(self._experts.schedule if worker == "gpu" else "copy", visits, here, times)

    @property
    def _engine(self) -> str:
        return "gpu" if self._experts.worker == "gpu" else "cpu"

    def _workspace(self, first: int, last: int, part: Part) -> None:
        if self._experts.worker == "gpu":
            new = self._job.prompt_tokens if not self.ends else 1
            size = self._prices.workspace_bytes(part, self._plan.sequences, new)
            self.graph.acquire(first, self._pool["gpu"], size, "workspace")
            self.graph.release(last, self._pool["gpu"], size, "workspace")

    def _count(self, turn: Turn, visits: dict[int, int], plan: LayerSchedule) -> None:
        phase = "prefill" if turn.step == PREFILL else "decode"
        for name, some in (("visited", visits), ("cached", plan.cached), ("moved", plan.moved), ("cpu", plan.on_cpu)):
            self.counts[f"{phase} {name}"] += len(some)

    def _run(
        self, turn: Turn, plan: LayerSchedule, visits: dict[int, int], routed: int, early: list[int], shared_s: float
    ) -> list[int]:
        """Tasks of a layer's experts; those that end it."""
        part, layer, worker = self._job.parts[turn.part], self._layer[turn.part], self._experts.worker
        seconds = {one: self._workers.expert_s(part, visits[one], worker) for one in (*plan.cached, *plan.moved)}
        on_way = {one: self._arriving.pop((layer, one)) for one in plan.cached if (layer, one) in self._arriving}
        there = sum(seconds[expert] for expert in plan.cached if expert not in on_way)
        done = [self._task(self._engine, shared_s + there, "compute", [routed], turn)]
        copies = {expert: self._carry(turn, layer, expert, early) for expert in plan.moved}
        if plan.on_cpu:
            done.append(self._compute_apart(turn, [visits[expert] for expert in plan.on_cpu], routed))
        for expert, copy in (*on_way.items(), *copies.items()):
            task = self._task(self._engine, seconds[expert], "compute", [routed, copy], turn)
            self._leave(layer, copy, task)
            done.append(task)
        return done

    def _leave(self, layer: int, copy: int, task: int) -> None:
        """An expert that found no slot is gone when a task ends."""
        if copy in self._passing:
            self._passing.discard(copy)
            self.graph.release(
                task, self._pool[self._experts.near], self._routed[layer].expert_bytes, "experts passing"
            )

    def _drop(self, layer: int, end: int) -> None:
        """Experts that were fetched ahead for a layer, and not needed."""
        for key in [key for key in self._arriving if key[0] == layer]:
            copy = self._arriving.pop(key)
            if copy in self._passing:
                self._leave(layer, copy, self.graph.add(NO_STREAM, 0.0, "dropped", [copy, end]))

    def _on_cpu_s(self, part: Part, tokens: int) -> float:
        """Of an expert beside the GPU: tokens come down, results go up."""
        size = self._job.hidden_bytes * tokens
        crossing = self._prices.copy_s("d2h", size) + self._prices.copy_s("h2d", size)
        return self._workers.expert_s(part, tokens, "cpu") + crossing

    def _compute_apart(self, turn: Turn, tokens: list[int], routed: int) -> int:
        """Experts that the CPU takes off the GPU."""
        part = self._job.parts[turn.part]
        seconds = sum(self._on_cpu_s(part, count) for count in tokens)
        task = self._task("cpu", seconds, "compute", [routed], turn)
        size = self._job.hidden_bytes * sum(tokens)
        self.moved += [Moved(task, "d2h", size), Moved(task, "h2d", size)]
        return task

    def _carry_s(self, layer: int) -> float:
        """Of one expert from its home to the worker."""
        plan, size = self._experts, self._routed[layer].expert_bytes
        up = self._prices.copy_s(self._up, size) if plan.worker == "gpu" else 0.0
        if plan.home == "host":
            return up
        return max(up, self._read_s(size))

    @property
    def _up(self) -> Route:
        """What comes from drives passes through pinned memory."""
        return "h2d" if self._plan.pinned_weights or self._experts.home == "storage" else "h2d_pageable"

    def _read_s(self, size_bytes: float) -> float:
        chunk = self._experts.read_chunk_bytes
        if chunk is None:
            return self._prices.copy_s("read", size_bytes)
        return self._workers.chunks_s(size_bytes, chunk, self._experts.read_depth)

    def _carry(self, turn: Turn, layer: int, expert: int, after: Iterable[int]) -> int:
        """An expert to the worker: into a slot if the cache takes it in, else beside it for as long as it computes."""
        plan, size = self._experts, self._routed[layer].expert_bytes
        kept = self._slots.admit(layer, expert)
        first = last = -1
        if plan.home == "storage":
            first = last = self._task("drives", self._read_s(size), "load_weight", after, turn)
            self.moved.append(Moved(last, "read", size))
        if plan.worker == "gpu":
            last = self._add(self._up, size, "load_weight", after if last < 0 else [last], turn)
            if first >= 0:
                self.graph.acquire(first, self._pool["host"], size, "staging")
                self.graph.release(last, self._pool["host"], size, "staging")
        if not kept:
            self._passing.add(last)
            self.graph.acquire(last, self._pool[plan.near], size, "experts passing")
        return last

    def _fill_link(self, turn: Turn, scores: Scores, plan: LayerSchedule, routed: int) -> None:
        """While the link would idle, carry experts that next layers' gates ask for now, else what this layer missed."""
        layer = self._layer[turn.part]
        last = layer + 1 == len(self._layer)
        period_s = plan.end_s + (0.0 if last else self._between_s(turn))
        link_s, copy_s = plan.link_end_s, self._carry_s(layer)
        asked = {} if last or link_s >= period_s else self._asked(scores, layer)
        missed = sorted(plan.on_cpu, key=lambda one: -self._slots.rank[layer, one])
        while link_s < period_s:
            later, expert = self._most_useful(turn, layer, asked, (link_s + copy_s) / period_s)
            if later < 0:
                if not missed or not self._slots.admit(layer, missed[0]):
                    break
                later, expert = layer, missed.pop(0)
            copy = self._carry(turn, later, expert, [routed])
            if later > layer:
                self._arriving[later, expert] = copy
                self._slots.pinned[later, expert] = True
            self.counts["fetched ahead" if later > layer else "kept after use"] += 1
            link_s += copy_s
        self._link_busy_s = max(0.0, link_s - period_s)

    def _asked(self, scores: Scores, layer: int) -> dict[int, dict[int, int]]:
        """Tokens by expert of the next layers, as their gates say now."""
        ahead = min(self._experts.prefetch_layers, len(self._layer) - 1 - layer)
        return {
            layer + far: loads(self._activation.early(scores, layer, far), self._routed[layer + far].top_k)
            for far in range(1, ahead + 1)
        }

    def _most_useful(self, turn: Turn, layer: int, asked: dict[int, dict[int, int]], periods: float) -> tuple[int, int]:
        """Layer and number of the expert that saves most, of those that would arrive in time; (-1, -1): none does."""
        best, found = 0.0, (-1, -1)
        for later, visits in asked.items():
            gain_s, expert = self._gain(turn, later, visits)
            if gain_s > best and periods <= later - layer:
                best, found = gain_s, (later, expert)
        return found

    def _between_s(self, turn: Turn) -> float:
        """From a layer's end to the next router: what attention takes."""
        part, batch = self._job.parts[turn.part + 1], self._plan.sequences
        new = self._job.prompt_tokens if turn.step == PREFILL else 1
        context = self._job.prompt_tokens + turn.step
        if self._experts.worker == "cpu":
            return self._workers.cpu_part_s(part, batch, new, context)
        return self._prices.linear_s(part, batch, new) + self._prices.attention_s(part, batch, new, context)

    def _gain(self, turn: Turn, layer: int, visits: dict[int, int]) -> tuple[float, int]:
        """Seconds that a later layer would save with one more expert, and which."""
        missing = [e for e in visits if not self._slots.has(layer, e) and (layer, e) not in self._arriving]
        if not missing:
            return 0.0, -1
        part = self._job.parts[turn.part]
        best = max(missing, key=lambda expert: (visits[expert], -expert))
        with_it = self._plan_layer(part, layer, visits, {best}).end_s
        return self._plan_layer(part, layer, visits, set()).end_s - with_it, best


def _check_scores(sequences: int, tokens: int, layers: int, experts: int) -> None:
    """Raises ImpossibleError for prompts whose routing, drawn token by token, no memory holds."""
    if (scores := sequences * tokens * layers * experts) > MOST_SCORES:
        raise ImpossibleError(
            f"offload.policy.batch_size = {sequences}: prompts of {tokens:,} tokens have {scores:.3g} routing scores,"
            f" which are drawn one by one, and {MOST_SCORES:.3g} are the most; give a smaller batch or shorter prompts"
        )
