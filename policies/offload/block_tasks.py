"""Tasks of offloaded inference, one batch passing one part of the model at a time.

Kinds of tasks are FlexGen's six (arXiv 2303.06865, Algorithm 1): load_weight, load_cache, load_activation, compute,
store_activation, store_cache; what crosses two links is two tasks. Streams are what the machine has one of: the GPU,
its copy engine each way, CPU cores, and drives, on which reads and writes take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from policies.offload.block_plan import TIERS, BlockPlan, Job, Prices, Route, Tier, placed
from policies.task_graph import NO_STREAM, TaskGraph

STREAMS = ("gpu", "h2d", "d2h", "cpu", "drives")
ROUTE_STREAM: dict[Route, str] = {
    "h2d": "h2d", "h2d_pageable": "h2d", "d2h": "d2h", "d2h_cache": "d2h", "d2h_activation": "d2h", "read": "drives",
    "write": "drives",
}  # fmt: skip
PREFILL = 0  # the step that reads the prompt; step i appends output token i + 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch passing one part in one step."""

    step: int
    part: int
    batch: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that a task carried on a route."""

    task: int
    route: Route
    size_bytes: float


class TurnTasks:
    """Adds tasks of turns to a graph; memory is that of three pools, in the order of TIERS. Who orders them derives."""

    def __init__(self, job: Job, plan: BlockPlan, prices: Prices) -> None:
        self.graph = TaskGraph()
        self.moved: list[Moved] = []
        self.ends: list[int] = []  # task that ends each step
        self._job, self._plan, self._prices = job, plan, prices
        self.counts: Counter[str] = Counter()  # of what is loaded by need
        self.counted: list[Counter[str]] = []  # the same at the end of each step
        self._stream = {name: self.graph.add_stream(0, name) for name in STREAMS}
        self._pool = {tier: self.graph.add_pool(0, tier) for tier in TIERS}
        self._placed = [placed(plan, part) for part in job.parts]
        self._gate: list[int] = []  # what everything new waits for
        self._now: list[int] = []  # tasks of this turn
        self._weights: dict[tuple[int, int], list[int]] = {}  # (step, part) -> what must end before it is computed
        self._cache: dict[Turn, list[int]] = {}
        self._inputs: dict[Turn, list[int]] = {}
        self._computed: list[int] = []  # last task of each turn
        self._stored: dict[Turn, int] = {}
        self._done: dict[Turn, int] = {}  # computed
        self._room: list[int] = []  # last compute of each part so far

    def build(self, steps: list[int]) -> TaskGraph:
        """The graph of these steps of the job (0: the prompt), as if they followed each other."""
        raise NotImplementedError

    def _resident(self) -> int:
        """A moment at which all that stays in its place is there."""
        task = self.graph.add(NO_STREAM, 0.0, "resident")
        for tier in TIERS:
            for owner, size in self.resident_bytes(tier).items():
                if size:
                    self.graph.acquire(task, self._pool[tier], size, owner)
        return task

    def resident_bytes(self, tier: Tier) -> dict[str, float]:
        """What a tier holds all along, by owner."""
        plan, job = self._plan, self._job
        kv = job.kv_bytes * plan.kv_factor * job.kv_tokens * plan.sequences
        hidden = job.hidden_bytes * job.prompt_tokens * plan.sequences
        return {
            "weights": sum(one[tier] for one in self._placed),
            "kv_cache": kv * plan.kv.of(tier),
            "activations": hidden * plan.activations.of(tier),
        }

    def _end_step(self, task: int) -> None:
        self.ends.append(task)
        self.counted.append(self.counts.copy())

    def _end(self, resident: int) -> None:
        task = self.graph.add(NO_STREAM, 0.0, "end", [*self._gate, *self._computed[-1:]])
        for change in [one for one in self.graph.memory if one.task == resident]:
            self.graph.release(task, change.pool, change.change_bytes, change.owner)

    def _close(self) -> None:
        """Nothing of the next turn starts before all of this one has ended."""
        self._gate = [self.graph.add(NO_STREAM, 0.0, "synchronise", self._now or self._gate)]
        self._now = []

    def _add(self, route: Route, size_bytes: float, kind: str, after: Iterable[int], turn: Turn) -> int:
        task = self._task(ROUTE_STREAM[route], self._prices.copy_s(route, size_bytes), kind, after, turn)
        self.moved.append(Moved(task, route, size_bytes))
        return task

    def _task(self, stream: str, seconds: float, kind: str, after: Iterable[int], turn: Turn) -> int:
        before = [*after, *self._gate]
        if self._plan.overlap == "none":
            before += self._now[-1:]
        name = f"{kind} {self._job.parts[turn.part].name} step {turn.step} batch {turn.batch}"
        task = self.graph.add(self._stream[stream], seconds, kind, before, name=name)
        self._now.append(task)
        return task

    def _load_weights(self, turn: Turn, after: Iterable[int] = ()) -> None:
        where, after = self._placed[turn.part], list(after)
        kind, needed = "load_weight", []
        gpu, host = self._pool["gpu"], self._pool["host"]
        last = (turn.step, turn.part)
        if size := where["host"]:
            route: Route = "h2d" if self._plan.pinned_weights else "h2d_pageable"
            needed.append(self._add(route, size, kind, after, turn))
            self.graph.acquire(needed[-1], gpu, size, "streamed weights")
        if size := where["storage"]:
            read = self._add("read", size, kind, after, turn)
            self.graph.acquire(read, host, size, "staging")
            needed.append(self._add("h2d", size, kind, [read], turn))
            self.graph.acquire(needed[-1], gpu, size, "streamed weights")
            self.graph.release(needed[-1], host, size, "staging")
        self._weights[last] = needed

    def _has_cache(self, turn: Turn) -> bool:
        return self._job.parts[turn.part].kv_bytes > 0.0

    def _cached_bytes(self, turn: Turn, tokens: int, tier: Tier) -> float:
        plan = self._plan
        part = self._job.parts[turn.part]
        return part.kv_bytes * plan.kv_factor * plan.gpu_batch_size * tokens * plan.kv.of(tier)

    def _load_cache(self, turn: Turn) -> None:
        """Of tokens before the step; CPU attention reads its share in host memory, where drives' share must come."""
        if turn.step == PREFILL or not self._has_cache(turn) or turn in self._cache:
            return
        tokens = self._job.prompt_tokens + turn.step - 1
        kind, needed = "load_cache", []
        gpu, host = self._pool["gpu"], self._pool["host"]
        if (size := self._cached_bytes(turn, tokens, "host")) and not self._plan.cpu_attention:
            needed.append(self._add("h2d_pageable", size, kind, (), turn))
            self.graph.acquire(needed[-1], gpu, size, "streamed cache")
        if size := self._cached_bytes(turn, tokens, "storage"):
            needed.append(self._add("read", size, kind, (), turn))
            self.graph.acquire(needed[-1], host, size, "streamed cache")
            if not self._plan.cpu_attention:
                needed.append(self._add("h2d", size, kind, needed[-1:], turn))
                self.graph.acquire(needed[-1], gpu, size, "streamed cache")
                self.graph.release(needed[-1], host, size, "streamed cache")
        self._cache[turn] = needed

    def _hidden_bytes(self, turn: Turn, tier: Tier) -> float:
        """Of a batch between two parts."""
        tokens = self._job.prompt_tokens if turn.step == PREFILL else 1
        return self._job.hidden_bytes * tokens * self._plan.gpu_batch_size * self._plan.activations.of(tier)

    def _load_activation(self, turn: Turn, producer: Turn | None) -> None:
        if turn.part == 0:
            return  # tokens come in
        kind, needed = "load_activation", []
        stored = [self._stored[producer]] if producer is not None and producer in self._stored else []
        if size := self._hidden_bytes(turn, "host"):
            needed.append(self._add("h2d_pageable", size, kind, stored, turn))
        if size := self._hidden_bytes(turn, "storage"):
            read = self._add("read", size, kind, stored, turn)
            needed.append(self._add("h2d", size, kind, [read], turn))
        self._inputs[turn] = needed

    def _compute(self, turn: Turn) -> int:
        job, plan, part = self._job, self._plan, self._job.parts[turn.part]
        new = job.prompt_tokens if turn.step == PREFILL else 1
        batch = plan.gpu_batch_size
        seconds = self._prices.linear_s(part, batch, new)
        if plan.compress_weights:
            seconds += self._prices.decompress_s(part.weight_bytes * plan.weight_factor)
        on_cpu = 0.0
        if self._has_cache(turn):
            elsewhere = 1.0 - plan.kv.gpu
            on_cpu = elsewhere if plan.cpu_attention and turn.step != PREFILL else 0.0
            context = job.prompt_tokens + turn.step
            seconds += self._prices.attention_s(part, batch * (1.0 - on_cpu), new, context)
            if plan.compress_kv and turn.step != PREFILL:
                seconds += self._prices.decompress_s(sum(self._cached_bytes(turn, context, tier) for tier in TIERS))
        after = [*self._weights[turn.step, turn.part], *self._cache.get(turn, ()), *self._inputs.get(turn, ())]
        after += self._computed[-1:]
        task = self._task("gpu", seconds, "compute", after, turn)
        first = task
        if on_cpu:
            task = self._attend_on_cpu(turn, task, on_cpu)
        workspace = self._prices.workspace_bytes(part, batch, new)
        self.graph.acquire(first, self._pool["gpu"], workspace, "workspace")
        self.graph.release(task, self._pool["gpu"], workspace, "workspace")
        self._release(turn, task, new)
        self._computed.append(task)
        self._done[turn] = task
        return task

    def _attend_on_cpu(self, turn: Turn, projected: int, share: float) -> int:
        """Queries, and keys and values of the new token, go down; what attention gives comes up (section 4.3)."""
        part = self._job.parts[turn.part]
        sequences = self._plan.gpu_batch_size * share
        up = self._job.hidden_bytes * sequences
        sent = self._add("d2h_activation", up + part.kv_bytes * sequences, "compute", [projected], turn)
        context = self._job.prompt_tokens + turn.step
        done = self._task("cpu", self._prices.cpu_attention_s(part, sequences, context), "compute", [sent], turn)
        return self._add("h2d_pageable", up, "compute", [done], turn)

    def _release(self, turn: Turn, task: int, new: int) -> None:
        """Give back what was loaded for a turn, and weights after a part's last batch."""
        gpu, plan = self._pool["gpu"], self._plan
        if turn.batch + 1 == plan.num_gpu_batches:
            where = self._placed[turn.part]
            if size := where["host"] + where["storage"]:
                self.graph.release(task, gpu, size, "streamed weights")
        if self._cache.get(turn):
            tokens = self._job.prompt_tokens + turn.step - 1
            tiers: tuple[Tier, ...] = ("host", "storage") if not plan.cpu_attention else ("storage",)
            size = sum(self._cached_bytes(turn, tokens, tier) for tier in tiers)
            if size:
                self.graph.release(task, self._pool["host" if plan.cpu_attention else "gpu"], size, "streamed cache")

    def _store_activation(self, turn: Turn) -> None:
        if turn.part + 1 == len(self._job.parts):
            return  # a token goes out
        kind, after = "store_activation", [self._done[turn]]
        if size := self._hidden_bytes(turn, "host"):
            self._stored[turn] = self._add("d2h_activation", size, kind, after, turn)
        if size := self._hidden_bytes(turn, "storage"):
            sent = self._add("d2h", size, kind, after, turn)
            self._stored[turn] = self._add("write", size, kind, [sent], turn)

    def _store_cache(self, turn: Turn) -> None:
        """What the step appended; CPU attention has sent it down already."""
        if not self._has_cache(turn):
            return
        prefill = turn.step == PREFILL
        new = self._job.prompt_tokens if prefill else 1
        kind, after = "store_cache", [self._done[turn]]
        host, storage = (self._cached_bytes(turn, new, tier) for tier in ("host", "storage"))
        sends = prefill or not self._plan.cpu_attention
        if host and sends:
            self._add("d2h_cache", host, kind, after, turn)
        if storage:
            sent = [self._add("d2h", storage, kind, after, turn)] if sends else after
            self._add("write", storage, kind, sent, turn)
