"""Orders offloaded inference: FlexGen's zig-zag block schedule, and weights streamed layer by layer."""

from __future__ import annotations

from policies.offload.block_tasks import Turn, TurnTasks
from policies.task_graph import TaskGraph


class BlockGraph(TurnTasks):
    """Writes steps of one block, one after the other."""

    def build(self, steps: list[int]) -> TaskGraph:
        """The graph of these steps of the job (0: the prompt), as if they followed each other."""
        resident = self._resident()
        self._gate = [resident]
        turns = [
            Turn(step, part, batch)
            for step in steps
            for part in range(len(self._job.parts))
            for batch in range(self._plan.num_gpu_batches)
        ]
        if self._plan.overlap == "asynchronous":
            self._run_ahead(turns)
        else:
            self._run_together(turns)
        self._end(resident)
        return self.graph

    # FlexGen: every turn loads for the next one, computes, stores for the one before, and ends as a whole

    def _run_together(self, turns: list[Turn]) -> None:
        one_by_one = self._plan.overlap == "none"
        run = self._alone if one_by_one else self._overlapped
        if not one_by_one:
            self._load_weights(turns[0])
            self._load_cache(turns[0])
            self._close()
        for number, turn in enumerate(turns):
            run(turns, number)
            self._close()
            if number + 1 == len(turns) or turns[number + 1].step != turn.step:
                self.ends.append(self._gate[0])

    def _alone(self, turns: list[Turn], number: int) -> None:
        turn, count = turns[number], self._plan.num_gpu_batches
        if turn.batch == 0:
            self._load_weights(turn)
        self._load_cache(turn)
        self._load_activation(turn, turns[number - count] if number >= count else None)
        self._compute(turn)
        self._store_activation(turn)
        self._store_cache(turn)

    def _overlapped(self, turns: list[Turn], number: int) -> None:
        """A block of one batch has no other whose activations could move meanwhile: its own go first, and last."""
        turn, count = turns[number], self._plan.num_gpu_batches
        coming = turns[number + 1] if number + 1 < len(turns) else None
        if count == 1:
            self._load_activation(turn, turns[number - 1] if number else None)
        if turn.batch == 0 and number + count < len(turns):
            self._load_weights(turns[number + count])
        if count > 1 and number:
            self._store_activation(turns[number - 1])
        if coming is not None:
            self._load_cache(coming)
            if count > 1:
                self._load_activation(coming, turns[number + 1 - count] if number + 1 >= count else None)
        if number:
            self._store_cache(turns[number - 1])
        self._compute(turn)
        if count == 1:
            self._store_activation(turn)

    # Weights streamed ahead of the compute, and nothing waited for but what is needed

    def _run_ahead(self, turns: list[Turn]) -> None:
        count, parts = self._plan.num_gpu_batches, len(self._job.parts)
        for number, turn in enumerate(turns):
            if turn.batch == 0:
                done = number // count  # parts computed before this one
                free = done - 1 - self._plan.prefetch_parts
                self._load_weights(turn, [self._room[free]] if free >= 0 else [])
            self._load_cache(turn)
            self._load_activation(turn, turns[number - count] if number >= count else None)
            task = self._compute(turn)
            self._store_activation(turn)
            self._store_cache(turn)
            if turn.batch + 1 == count:
                self._room.append(task)
                if turn.part + 1 == parts:
                    self.ends.append(task)
