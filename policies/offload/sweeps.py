"""The whole model streams past the GPU once a step, attention is on the CPU: MoE-Lens, and MoE-Lightning's phases.

MoE-Lens (arXiv 2504.09345) lets every sweep over the weights serve prompts of new sequences and tokens of old ones:
with prompts of p tokens and outputs of g, each of N sequences in flight adds one token, and N / g of them their prompt.
As they are of all ages, they hold p + g / 2 tokens each on average. In phases all read their prompts first and hold
p + g until the last token (MoE-Lightning, arXiv 2411.11217).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from hardware_models.errors import ImpossibleError
from policies.offload.batches_graph import BatchesGraph
from policies.offload.block_plan import BlockPlan, Job, Part, Prices, Split, Tier
from policies.offload.block_tasks import PREFILL, Moved, Turn
from policies.offload.flexgen import Count

HALVES = 2
IN_HOST = Split(0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan(BlockPlan):
    """What `SweepGraph` writes; sequences of the plan are those in flight."""

    mixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeLens:
    """Weights, and keys and values, in host memory; mixed: prompts and tokens share sweeps.

    sequences: in flight; None: as many as host memory holds keys and values of, but, mixed, no more than the GPU
    computes while the weights pass.
    """

    sequences: Annotated[int, Field(ge=HALVES, le=10_000_000)] | None = None
    mixed: bool = True
    prefetch_parts: Count = 4  # of which a layer has two

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """Raises ImpossibleError where host memory has no room for keys and values, or sequences make no two halves."""
        if self.sequences is not None and self.sequences % HALVES:
            raise ImpossibleError(
                f"offload.policy.sequences = {self.sequences}: two halves take turns and are as large as each other;"
                f" give {self.sequences + 1}"
            )
        each = job.kv_bytes * held_tokens(job, mixed=self.mixed)
        fit = int((budgets["host"] - job.weight_bytes) // each)
        if fit < HALVES:
            raise ImpossibleError(
                f"offload.host_memory_bytes = {budgets['host']:g}: beside weights of {job.weight_bytes / 1e9:,.1f} GB"
                f" there is no room for keys and values of {HALVES} sequences, {HALVES * each / 1e9:,.2f} GB; give"
                f" {job.weight_bytes + HALVES * each:.4g} at least, or fewer tokens"
            )
        count = self.sequences or (min(fit, _knee(job, prices, fit)) if self.mixed else fit)
        return SweepPlan(
            weights=IN_HOST,
            kv=IN_HOST,
            activations=IN_HOST,
            gpu_batch_size=count // HALVES,
            num_gpu_batches=HALVES,
            cpu_attention=True,
            overlap="asynchronous",
            prefetch_parts=self.prefetch_parts,
            mixed=self.mixed,
        )


def held_tokens(job: Job, *, mixed: bool) -> float:
    """Of keys and values that a sequence in flight has, on average where sequences are of all ages."""
    return job.prompt_tokens + job.output_tokens / 2.0 if mixed else float(job.kv_tokens)


def tokens_of(job: Job, sequences: float) -> float:
    """That a mixed sweep computes."""
    return sequences * (1.0 + job.prompt_tokens / job.output_tokens)


def _knee(job: Job, prices: Prices, most: int) -> int:
    """Sequences in flight at which the GPU computes for as long as the weights pass, by bisection."""
    sweep_s = sum(prices.copy_s("h2d", part.weight_bytes) for part in job.parts)
    low, high = HALVES, max(HALVES, most)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_mixed_s(job, prices, part, middle / HALVES) for part in job.parts) * HALVES <= sweep_s:
            low = middle
        else:
            high = middle - 1
    return low


def _mixed_s(job: Job, prices: Prices, part: Part, sequences: float) -> float:
    """On the GPU, of a part in a mixed sweep."""
    rows = sequences if part.kind == "head" else tokens_of(job, sequences)
    seconds = prices.linear_s(part, rows, 1)
    if part.kv_bytes:
        new = sequences / job.output_tokens
        seconds += prices.attention_s(part, new, job.prompt_tokens, job.prompt_tokens)
    return seconds


class SweepGraph(BatchesGraph):
    """Each part's weights come once a step, as far ahead as buffers go; two halves of the sequences take turns."""

    def __init__(self, job: Job, plan: SweepPlan, prices: Prices) -> None:
        super().__init__(job, plan, prices)
        self._sweep = plan
        self._free: list[int] = []  # tasks after which a part's buffer is free, in order

    def resident_bytes(self, tier: Tier) -> dict[str, float]:
        """All is in host memory."""
        found = super().resident_bytes(tier)
        if tier == "host":
            tokens = held_tokens(self._job, mixed=self._sweep.mixed)
            found["kv_cache"] = self._job.kv_bytes * tokens * self._plan.sequences
            found["activations"] = 0.0
        return found

    def _reads_prompts(self, turn: Turn) -> bool:
        return self._sweep.mixed or turn.step == PREFILL

    def _decodes(self, turn: Turn) -> bool:
        return self._sweep.mixed or turn.step != PREFILL

    def _weights_of(self, turn: Turn) -> list[int]:
        key = (turn.step, turn.part)
        if turn.batch == 0:
            ahead = len(self._free) - self._plan.prefetch_parts
            self._load_weights(turn, self._free[ahead : ahead + 1] if ahead >= 0 else ())
        return self._weights[key]

    def _computed_on(self, turn: Turn, task: int) -> None:
        if turn.batch + 1 == HALVES:
            self._free.append(task)
            if size := self._placed[turn.part]["host"]:
                self.graph.release(task, self._pool["gpu"], size, "streamed weights")

    def _gpu_s(self, turn: Turn, part: Part) -> float:
        if self._sweep.mixed:
            return _mixed_s(self._job, self._prices, part, self._plan.gpu_batch_size)
        return super()._gpu_s(turn, part)

    def _workspace_bytes(self, turn: Turn, part: Part) -> float:
        """Of one prompt at a time."""
        return self._prices.workspace_bytes(part, 1, self._job.prompt_tokens)

    def _prompts(self) -> float:
        """Sequences of a half that read their prompts in a step that reads any."""
        return self._plan.gpu_batch_size / (self._job.output_tokens if self._sweep.mixed else 1)

    def _store(self, turn: Turn, part: Part, computed: int) -> int:
        return self._down(part.kv_bytes * self._prompts() * self._job.prompt_tokens, "store_cache", [computed], turn)

    def _attend(self, turn: Turn, part: Part, computed: int) -> int:
        """Queries, keys and values go down; outputs come up beside weights, which are cut in packets to let them."""
        sequences = self._plan.gpu_batch_size
        hidden = self._job.hidden_bytes * sequences
        sent = self._down(hidden + part.kv_bytes * sequences, "compute", [computed], turn)
        context = self._job.prompt_tokens + turn.step
        if self._sweep.mixed:
            context = round(held_tokens(self._job, mixed=True))
        seconds = self._prices.cpu_attention_s(part, sequences, context) + self._prices.copy_s("h2d", hidden)
        task = self._task("cpu", seconds, "compute", [sent], turn)
        self.moved.append(Moved(task, "h2d", hidden))
        return task

    def _down(self, size_bytes: float, kind: str, after: Iterable[int], turn: Turn) -> int:
        return self._add("d2h", size_bytes, kind, after, turn)
