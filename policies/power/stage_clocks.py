"""Whose choice the clocks of a pipeline's passes are: one clock a pass, so that no pass hurries only to wait.

What is chosen is checked against the pipeline as planned (`perseus_pipeline`); the simulated step then runs at it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import FleetcastError, ImpossibleError
from policies.power.perseus import Frontier, frontier
from policies.power.perseus_baselines import envpipe
from policies.power.perseus_pipeline import Outcome, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class StageClocks:
    """A choice of clocks; straggler: another copy of the pipeline takes so many times as long at the highest clocks."""

    straggler: float = 1.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.straggler < 1e6:
            raise FleetcastError(
                f"straggler = {self.straggler:g}: how many times as long another pipeline takes; give 1 (there is"
                " none) or more"
            )

    def choose(self, pipeline: Pipeline) -> Outcome:
        """A clock of each pass; raises ImpossibleError for a wish that no clocks fulfil."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class PerseusClocks(StageClocks):
    """The frontier's point at a length of the iteration, or of least energy if that is shorter (arXiv 2312.06902)."""

    slowdown: float = 0.0  # by which share an iteration may be longer than the shortest
    iteration_s: float | None = None  # in place of it: how long the passes of a step may take

    def __post_init__(self) -> None:
        super(PerseusClocks, self).__post_init__()  # a class with slots is made twice
        if not 0.0 <= self.slowdown < 1e6:
            raise FleetcastError(
                f"slowdown = {self.slowdown:g}: by which share an iteration may be longer; give 0 or more"
            )
        if self.iteration_s is not None and not self.iteration_s > 0.0:
            raise FleetcastError(f"iteration_s = {self.iteration_s:g}: give seconds above 0")
        wishes = [self.slowdown > 0.0, self.iteration_s is not None, self.straggler > 1.0]
        if sum(wishes) > 1:
            raise FleetcastError(
                "slowdown, iteration_s and straggler each say how long an iteration may take; give one of them"
            )

    def choose(self, pipeline: Pipeline) -> Outcome:
        """A clock of each pass; raises ImpossibleError for an iteration that no clocks make so short."""
        return self.choose_from(frontier(pipeline))

    def choose_from(self, found: Frontier) -> Outcome:
        """The same, of a frontier that is known."""
        longest_s = self.iteration_s
        if longest_s is not None and longest_s < found.shortest_s:
            raise ImpossibleError(
                f"iteration_s = {longest_s:g}: no clocks make the passes of a step shorter than {found.shortest_s:.6g}"
                " s; give as much or more"
            )
        if longest_s is None and self.straggler > 1.0:
            pipeline = found.pipeline
            late = [self.straggler * pipeline.profile(slot).fastest.seconds for slot in pipeline.slots]
            longest_s = max(found.shortest_s, pipeline.iteration_s(late))
        elif longest_s is None:
            longest_s = found.shortest_s * (1.0 + self.slowdown)
        return found.run(min(longest_s, max(found.cheapest_s, found.shortest_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvPipeClocks(StageClocks):
    """EnvPipe's envelope: the last stage and outermost passes at the highest clock, inner ones as low as fits."""

    def choose(self, pipeline: Pipeline) -> Outcome:
        """A clock of each pass; the iteration gets no longer."""
        return envpipe(pipeline)


STAGE_CLOCKS: dict[str, type[StageClocks]] = {"perseus": PerseusClocks, "envpipe": EnvPipeClocks}
