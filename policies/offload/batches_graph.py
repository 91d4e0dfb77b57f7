"""Writes steps in which batches take turns: while attention of one is elsewhere, the GPU computes another."""

from __future__ import annotations

from collections.abc import Iterator

from policies.offload.block_plan import Part
from policies.offload.block_tasks import PREFILL, Turn, TurnTasks
from policies.task_graph import NO_STREAM, TaskGraph


class BatchesGraph(TurnTasks):
    """A batch's next part waits for its own attention alone, and for the GPU. Who says where attention is derives."""

    def build(self, steps: list[int]) -> TaskGraph:
        """The graph of these steps of the job (0: the prompt), as if they followed each other."""
        resident = self._resident()
        self._gate = [resident]
        before: dict[int, list[int]] = {}
        for step in steps:
            stored: list[int] = []
            for turn in self._turns(step):
                before[turn.batch] = [self._pass(turn, [*before.get(turn.batch, []), *self._weights_of(turn)], stored)]
            last = [one for ends in before.values() for one in ends]
            self._end_step(self.graph.add(NO_STREAM, 0.0, "step", [*last, *stored]))
        self._computed.append(self.ends[-1])
        self._end(resident)
        return self.graph

    def _turns(self, step: int) -> Iterator[Turn]:
        for part in range(len(self._job.parts)):
            for batch in range(self._plan.num_gpu_batches):
                yield Turn(step, part, batch)

    def _pass(self, turn: Turn, before: list[int], stored: list[int]) -> int:
        """One batch passes one part; the task that ends it, and in `stored` what a step's end waits for too."""
        part = self._job.parts[turn.part]
        task = self._task("gpu", self._gpu_s(turn, part), "compute", before, turn)
        workspace = self._workspace_bytes(turn, part)
        self.graph.acquire(task, self._pool["gpu"], workspace, "workspace")
        self.graph.release(task, self._pool["gpu"], workspace, "workspace")
        self._computed_on(turn, task)
        if not part.kv_bytes:
            return task
        if self._reads_prompts(turn):
            stored.append(self._store(turn, part, task))
        return self._attend(turn, part, task) if self._decodes(turn) else task

    def _reads_prompts(self, turn: Turn) -> bool:
        return turn.step == PREFILL

    def _decodes(self, turn: Turn) -> bool:
        return turn.step != PREFILL

    def _gpu_s(self, turn: Turn, part: Part) -> float:
        """Of a part on the GPU, prompts' attention included."""
        batch, new = self._plan.gpu_batch_size, self._new(turn)
        seconds = self._prices.linear_s(part, batch, new)
        if part.kv_bytes and turn.step == PREFILL:
            seconds += self._prices.attention_s(part, batch, new, new)
        return seconds

    def _new(self, turn: Turn) -> int:
        return self._job.prompt_tokens if turn.step == PREFILL else 1

    def _workspace_bytes(self, turn: Turn, part: Part) -> float:
        return self._prices.workspace_bytes(part, self._plan.gpu_batch_size, self._new(turn))

    def _weights_of(self, turn: Turn) -> list[int]:
        """What brings a part's weights; nothing where they are there."""
        return []

    def _computed_on(self, turn: Turn, task: int) -> None:
        """The GPU is done with a part for a batch."""

    def _store(self, turn: Turn, part: Part, computed: int) -> int:
        """Keys and values of prompts leave the GPU; the last task of it."""
        raise NotImplementedError

    def _attend(self, turn: Turn, part: Part, computed: int) -> int:
        """Attention for one new token of each sequence; the task that brings its output."""
        raise NotImplementedError
