"""What runs of task graphs return: figures, and the tasks and the memory behind them as frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from policies.task_graph import TaskGraph
from sim.graph.frames import memory_frame, tasks_frame
from sim.graph.times import Times
from sim.result import RunResult, ScenarioT

if TYPE_CHECKING:
    import pandas as pd


class ExecutedGraph(Protocol):
    """A graph, and when each of its tasks ran."""

    @property
    def graph(self) -> TaskGraph:
        """What ran."""
        ...

    @property
    def times(self) -> Times:
        """Start and end of each task."""
        ...


RunT = TypeVar("RunT", bound=ExecutedGraph)


@dataclass
class GraphResult(RunResult[ScenarioT], Generic[ScenarioT, RunT]):
    """A run of a task graph; frames are of the steps that were run."""

    run: RunT = field(repr=False)

    @property
    def frames(self) -> tuple[str, ...]:
        """Tasks, and what pools hold."""
        return ("tasks", "memory")

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row a task; columns as in sim.graph.frames.TASK_COLUMNS."""
        return tasks_frame(self.run.graph, self.run.times)

    @cached_property
    def memory(self) -> pd.DataFrame:
        """One row a change of what an owner holds; columns as in sim.graph.frames.MEMORY_COLUMNS."""
        return memory_frame(self.run.graph, self.run.times)
