"""Best-first branch and bound over ladders of candidates (`sim.plan.frame`), verified by simulation.

A ladder's `floor(rung)` is a proved least value of the objective and never falls as rungs rise; the ladder whose next
rung has the lowest floor is looked at next. A ladder loses for one of four reasons, kept in words: it is impossible; a
proof says that its rungs are too few; simulation says what they miss; or its floor exceeds the best that was verified.
So nothing cheaper than the answer is left unlooked at.

Rungs below one that was simulated and failed are taken to fail as well ("more is never worse"); `Outcome.untried`
counts the rungs for which that stands in place of a simulation, and the rung just below the winner is always simulated
(or proved too small). With `exhaustive`, every rung is simulated and nothing is taken for granted.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

from sim.plan.frame import Candidate, Ladder, Outcome, Trial, rank

STRIDE = 1.5  # by which rungs grow while none has done

Progress = Callable[["Search"], None]


class Search:
    """Best-first branch and bound over ladders."""

    def __init__(
        self,
        ladders: Sequence[Ladder],
        *,
        show: Callable[[float], str] = "{:.4g}".format,
        settled: bool = True,
        exhaustive: bool = False,
        progress: Progress = lambda _search: None,
    ) -> None:
        """show: a value of the objective in words. settled: `floor` is the objective itself (a price), not only a bound
        of it (joules).
        """
        self.candidates = [Candidate(ladder, order) for order, ladder in enumerate(ladders)]
        self.simulations = 0
        self.at = ""  # what is being simulated
        self.best: Trial | None = None
        self._winner: Candidate | None = None
        self._show, self._settled, self._exhaustive, self._progress = show, settled, exhaustive, progress
        self._heap: list[tuple[float, int, int, Candidate]] = []  # (floor, order, rung), the next rung of each

    @property
    def decided(self) -> int:
        """Candidates whose fate is known."""
        return len(self.candidates) - len(self._heap)

    def run(self) -> Outcome:
        """Search to the end."""
        for candidate in self.candidates:
            self._push(candidate, 1)
        while self._heap:
            floor, _, rung, candidate = heapq.heappop(self._heap)
            if self.best is not None and floor > self.best.value:
                self._push_back(floor, rung, candidate)
                break
            self._step(candidate, rung)
        while self._heap:
            candidate = heapq.heappop(self._heap)[-1]
            candidate.lost = candidate.lost or self._by_price(candidate)
        for candidate in self.candidates:
            candidate.untried = self._untried(candidate)
            if candidate is not self._winner and not candidate.lost:
                candidate.lost = self._beaten(candidate)
        ranked = sorted(self.candidates, key=rank)
        assert self._winner is None or ranked[0] is self._winner
        return Outcome(ranked, self.simulations, self._exhaustive)

    def _untried(self, candidate: Candidate) -> int:
        """Rungs that might have been better, below one that failed or did, that were not simulated."""
        proof, ladder = candidate.proof, candidate.ladder
        if proof is None or proof.impossible or not candidate.trials:
            return 0
        top = min([rung for rung, trial in candidate.trials.items() if trial.met], default=max(candidate.trials))
        most = math.inf if self.best is None else self.best.value
        below = (rung for rung in range(proof.first, top) if rung not in candidate.trials)
        return sum(1 for rung in below if ladder.floor(rung) <= most)

    def _step(self, candidate: Candidate, rung: int) -> None:
        """Look at a ladder whose floor at `rung` is the lowest of all."""
        if candidate.proof is None:
            candidate.proof = candidate.ladder.prove()
            proof = candidate.proof
            if proof.impossible:
                candidate.lost = proof.reason
            elif proof.first > candidate.ladder.last:
                candidate.lost = f"proved: {proof.reason}; {candidate.ladder.size(proof.first)} are more than allowed"
            else:
                self._push(candidate, max(1, proof.first))
            return
        if self.best is not None and not self._exhaustive:
            self._below_the_best(candidate, rung)
            return
        if not self._exhaustive:
            rung = min(max(rung, candidate.reach), candidate.ladder.last)
        trial = self._try(candidate, rung)
        if trial.met:
            self._done(candidate, rung)
        elif rung < candidate.ladder.last:
            candidate.reach = math.ceil(rung * STRIDE)
            self._push(candidate, rung + 1)
        else:
            candidate.lost = trial.reason

    def _below_the_best(self, candidate: Candidate, rung: int) -> None:
        """Only rungs as cheap as the best count, and the dearest of them tells of all."""
        assert self.best is not None
        top = _last_rung(lambda r: candidate.ladder.floor(r) <= self.best.value, rung, candidate.ladder.last)  # type: ignore[union-attr]
        if self._try(candidate, top).met:
            self._done(candidate, top)
            return
        trial = candidate.trials[top]
        dearer = top < candidate.ladder.last
        candidate.lost = trial.reason + (f"; {self._priced(candidate.ladder, top + 1)}" if dearer else "")

    def _done(self, candidate: Candidate, met: int) -> None:
        """A rung does: find the least that does, and where the objective is not settled the best above it."""
        proof = candidate.proof
        assert proof is not None
        low = max([rung for rung, trial in candidate.trials.items() if not trial.met and rung < met], default=0)
        low = max(low, proof.first - 1)
        high = met
        while high - low > 1 and not self._exhaustive:
            middle = (low + high) // 2
            if self._try(candidate, middle).met:
                high = middle
            else:
                low = middle
        self._take(candidate)
        if not self._settled:
            self._above(candidate, high)

    def _above(self, candidate: Candidate, rung: int) -> None:
        """Rungs that may be better though they are larger."""
        while rung < candidate.ladder.last:
            rung += 1
            assert self.best is not None
            if candidate.ladder.floor(rung) > self.best.value:
                return
            self._try(candidate, rung)
            self._take(candidate)

    def _take(self, candidate: Candidate) -> None:
        found = candidate.best
        if found is None:
            return
        won = self._winner
        if self.best is None or won is None or (found.rank, candidate.order) < (self.best.rank, won.order):
            self.best, self._winner = found, candidate

    def _try(self, candidate: Candidate, rung: int) -> Trial:
        if rung not in candidate.trials:
            self.at = f"{candidate.ladder.name}, {candidate.ladder.size(rung)}"
            self._progress(self)
            candidate.trials[rung] = candidate.ladder.verify(rung)
            self.simulations += 1
        return candidate.trials[rung]

    def _push(self, candidate: Candidate, rung: int) -> None:
        self._push_back(candidate.ladder.floor(rung), rung, candidate)

    def _push_back(self, floor: float, rung: int, candidate: Candidate) -> None:
        heapq.heappush(self._heap, (floor, candidate.order, rung, candidate))

    def _by_price(self, candidate: Candidate) -> str:
        """Why a ladder whose remaining rungs are all dearer than the best is not the answer."""
        ladder, proof, nearest = candidate.ladder, candidate.proof, candidate.nearest
        following = max(candidate.trials, default=0) + 1
        if nearest is not None:
            return f"{nearest.reason}; {self._priced(ladder, following)}"
        if proof is not None and proof.first > 1:
            return f"proved: {proof.reason}; {self._priced(ladder, proof.first)}"
        return self._priced(ladder, 1)

    def _priced(self, ladder: Ladder, rung: int) -> str:
        least = "" if self._settled else "at least "
        return f"{ladder.size(rung)}: {least}{self._show(ladder.floor(rung))}"

    def _beaten(self, candidate: Candidate) -> str:
        best, won = candidate.best, self.best
        if best is None or won is None:
            return ""
        if best.value == won.value:
            how = "dearer" if best.tie > won.tie else "with less room under the limits"
            return f"does for as much, but {how}"
        return f"does, but for {self._show(best.value)} against {self._show(won.value)}"


def _last_rung(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The largest rung that holds, of low..high, where low does and none after one that does not."""
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
