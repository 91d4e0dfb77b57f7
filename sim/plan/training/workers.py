"""Processes that grade plans side by side; each keeps the prices of its own share of the cuts."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from hardware_models.errors import ImpossibleError
from sim.plan.training.bounds import Bound
from sim.plan.training.evaluator import PASSES, Evaluator, Grade
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.search import BESIDE
from sim.training_scenario import TrainingScenario


class Workers:
    """So many processes; leaving the context ends them."""

    def __init__(self, base: TrainingScenario, plans: Sequence[TrainingPlan], count: int) -> None:
        forks = "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        cuts = list(dict.fromkeys(plan.cut for plan in plans))
        self._owner = {cut: number % count for number, cut in enumerate(cuts)}
        self._shares = [[plan for plan in plans if self._owner[plan.cut] == one] for one in range(count)]
        self._pipes: list[Connection] = []
        self._processes = []
        for share in self._shares:
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, base, share), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def bounds(self, plans: Sequence[TrainingPlan]) -> tuple[dict[TrainingPlan, Bound], list[str]]:
        """Of every plan that can be, in order, and why the others cannot."""
        answers = self._ask([None] * len(self._pipes))
        known: dict[TrainingPlan, Bound | str] = {}
        for share, answer in zip(self._shares, answers, strict=True):
            known.update(zip(share, answer, strict=True))
        found: dict[TrainingPlan, Bound] = {}
        refused = []
        for plan in plans:
            bound = known[plan]
            if isinstance(bound, Bound):
                found[plan] = bound
            else:
                refused.append(bound)
        return found, refused

    def next_level(self, grades: Sequence[Grade]) -> Iterable[Grade]:
        """Each a level up, in order."""
        mine: list[list[Grade]] = [[] for _ in self._pipes]
        busy = [0] * len(mine)
        for grade in sorted(grades, key=lambda one: -one.level):
            cheap = grade.level == PASSES  # whose prices of layers are at hand
            one = self._owner[grade.plan.cut] if cheap else busy.index(min(busy))
            mine[one].append(grade)
            busy[one] += 1 if cheap else BESIDE
        answers = self._ask(mine)
        raised = {grade.plan: grade for answer in answers for grade in answer}
        return [raised[grade.plan] for grade in grades]

    def _ask(self, questions: Sequence[Any]) -> list[Any]:
        """One question a process, all at once; what a process raises is raised here."""
        for pipe, question in zip(self._pipes, questions, strict=True):
            pipe.send(question)
        answers = [pipe.recv() for pipe in self._pipes]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers


def _work(pipe: Connection, base: TrainingScenario, share: Sequence[TrainingPlan]) -> None:
    """Answer until nobody asks: None for the bounds of the share, grades for their next level."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks ends this
    evaluator = Evaluator(base)
    while True:
        try:
            question = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if question is None:
                pipe.send([_bound(evaluator, plan) for plan in share])
            else:
                pipe.send([evaluator.next(grade) for grade in question])
        except Exception as error:  # raised again by the one who asks
            pipe.send(error)


def _bound(evaluator: Evaluator, plan: TrainingPlan) -> Bound | str:
    try:
        return evaluator.bound(plan)
    except ImpossibleError as error:
        return str(error)
