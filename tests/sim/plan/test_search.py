"""Branch and bound over ladders finds what trying every rung finds, whatever the order, the bounds and the ties."""

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.frame import Proof, Trial
from sim.plan.search import Search


@dataclass
class Fake:
    """A ladder whose rungs below `needs` miss; proved too small below `proved`; a rung costs `price` each."""

    name: str
    price: float
    needs: int
    proved: int
    last: int
    room: float = 0.5  # reached over limit where it does
    extra: float = 0.0  # of the objective over its floor
    holes: tuple[int, ...] = ()  # rungs from `needs` up that miss all the same
    tried: list[int] = field(default_factory=list)
    proofs: int = 0

    def size(self, rung):
        return f"{rung} rungs"

    def floor(self, rung):
        return self.price * rung

    def prove(self):
        self.proofs += 1
        return Proof(self.proved, "reason", impossible=self.needs < 0)

    def does(self, rung):
        return self.needs > 0 and rung >= self.needs and rung not in self.holes

    def value(self, rung):
        return self.floor(rung) + self.extra * (1 + rung % 3)

    def verify(self, rung):
        assert rung not in self.tried
        assert 1 <= rung <= self.last
        self.tried.append(rung)
        met = self.does(rung)
        return Trial(rung, met, self.value(rung), self.room if met else 1.0 + self.needs / rung, "reason")


def brute_force(ladders):
    """(value, miss, ladder) of the best of all rungs."""
    found = [
        (one.value(rung), one.room, order)
        for order, one in enumerate(ladders)
        for rung in range(1, one.last + 1)
        if one.does(rung)
    ]
    return min(found, default=None)


@st.composite
def ladders(draw, *, holes=False, extra=False):
    found = []
    for number in range(draw(st.integers(1, 6))):
        last = draw(st.integers(0, 12))
        needs = draw(st.integers(1, 15))
        found.append(
            Fake(
                f"l{number}",
                float(draw(st.integers(1, 6))),
                -1 if draw(st.integers(0, 5)) == 0 else needs,
                draw(st.integers(1, needs)),
                last,
                room=draw(st.sampled_from([0.4, 0.5])),
                extra=float(draw(st.integers(0, 4))) if extra else 0.0,
                holes=tuple(draw(st.lists(st.integers(1, 12), max_size=4))) if holes else (),
            )
        )
    return found


def check(found, outcome):
    best = brute_force(found)
    if best is None:
        assert outcome.winner is None
        return
    winner = outcome.winner
    assert (winner.best.value, winner.best.miss) == best[:2]
    assert winner.order == best[2]


@settings(max_examples=400, deadline=None)
@given(ladders())
def test_the_answer_is_that_of_brute_force(found):
    outcome = Search(found).run()
    check(found, outcome)
    assert all(one.proofs <= 1 for one in found)


@settings(max_examples=400, deadline=None)
@given(ladders(holes=True))
def test_exhaustively_it_is_even_where_more_is_sometimes_worse(found):
    check(found, Search(found, exhaustive=True).run())


@settings(max_examples=400, deadline=None)
@given(ladders(extra=True))
def test_it_is_where_the_objective_is_only_known_by_simulation(found):
    check(found, Search(found, settled=False).run())


@settings(max_examples=300, deadline=None)
@given(ladders())
def test_the_rung_below_the_answer_was_simulated_or_proved_too_small(found):
    winner = Search(found).run().winner
    if winner is not None:
        below = winner.best.rung - 1
        assert below < winner.proof.first or not winner.trials[below].met


@settings(max_examples=300, deadline=None)
@given(ladders())
def test_every_candidate_that_is_not_the_answer_has_a_reason(found):
    outcome = Search(found).run()
    for candidate in outcome.candidates:
        assert bool(candidate.lost) != (candidate is outcome.winner)


@settings(max_examples=300, deadline=None)
@given(ladders())
def test_untried_rungs_are_those_cheaper_than_the_answer_that_nothing_was_said_of(found):
    outcome = Search(found).run()
    if outcome.winner is None:
        return
    value = outcome.winner.best.value
    for candidate in outcome.candidates:
        ladder = candidate.ladder
        if candidate.proof is None or candidate.proof.impossible:
            assert candidate.untried == 0
            continue
        cheaper = [r for r in range(candidate.proof.first, ladder.last + 1) if ladder.floor(r) < value]
        silent = [r for r in cheaper if r not in candidate.trials]
        met = [r for r, trial in candidate.trials.items() if trial.met]
        silent = [r for r in silent if r < min(met, default=math.inf)]
        assert candidate.untried >= len(silent)
    assert Search(found_again(found), exhaustive=True).run().untried == 0


def found_again(found):
    return [Fake(o.name, o.price, o.needs, o.proved, o.last, room=o.room, extra=o.extra, holes=o.holes) for o in found]


def test_a_ladder_dearer_than_the_answer_is_neither_proved_nor_simulated():
    cheap, dear = Fake("cheap", 1.0, 3, 2, 10), Fake("dear", 50.0, 1, 1, 10)
    outcome = Search([dear, cheap]).run()
    assert outcome.winner.ladder is cheap
    assert dear.proofs == 0
    assert dear.tried == []
    assert outcome.candidates[1].lost == "1 rungs: 50"


def test_candidates_as_cheap_are_simulated_and_the_one_with_more_room_wins():
    tight, roomy = Fake("tight", 2.0, 2, 1, 10, room=0.9), Fake("roomy", 2.0, 2, 1, 10, room=0.2)
    outcome = Search([tight, roomy]).run()
    assert outcome.winner.ladder is roomy
    assert "does for as much, but with less room" in outcome.candidates[1].lost


def test_nothing_in_the_space_leaves_the_nearest_miss():
    outcome = Search([Fake("a", 1.0, 15, 1, 4), Fake("b", 1.0, 14, 1, 9)]).run()
    assert outcome.winner is None
    assert outcome.candidates[0].ladder.name == "b"
    assert outcome.candidates[0].nearest.rung == 9
