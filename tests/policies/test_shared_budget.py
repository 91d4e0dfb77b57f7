"""Who pays for a budget shared by serving and training, how much, and who is let go first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.power import UNLOCKED, Locks, RowView
from policies.power.shared_budget import SharedBudget


@dataclass(frozen=True)
class Training:
    """300 W at its own clock of 1,400 MHz, in proportion below it."""

    clocks_mhz: tuple[float, ...] = (600.0, 800.0, 1000.0, 1200.0)

    def watts(self, mhz: float | None) -> float:
        return 300.0 * (1400.0 if mhz is None else mhz) / 1400.0


AT_800, AT_600 = Locks(training_mhz=800.0), Locks(training_mhz=600.0)
LOW = Locks(low_mhz=1110.0)
BOTH = Locks(low_mhz=1110.0, training_mhz=600.0)
ALL = replace(BOTH, high_mhz=1305.0)
TRAINING, LOW_FIRST = SharedBudget(), SharedBudget(first="low")


def view(watts: float, ordered: Locks = UNLOCKED, *, pending: bool = False, settled_s: float = 60.0) -> RowView:
    """Of a row with a limit of 1,000 W."""
    acting = UNLOCKED if pending else ordered
    return RowView(0.0, watts, 1000.0, ordered, not pending, acting, settled_s, 0.0, Training())


@pytest.mark.parametrize(
    ("policy", "seen", "expected"),
    [
        (TRAINING, view(880.0), UNLOCKED),
        (TRAINING, view(900.0), Locks(training_mhz=1000.0)),  # 60 W less: 1,120 MHz would do
        (TRAINING, view(900.0, AT_800, pending=True), AT_800),  # it is on its way
        (TRAINING, view(960.0), AT_800),
        (TRAINING, view(1080.0), BOTH),  # its lowest leaves 908 W
        (TRAINING, view(900.0, BOTH, pending=True), BOTH),
        (TRAINING, view(900.0, BOTH), ALL),  # all others have paid
        (TRAINING, view(900.0, ALL), ALL),
        (TRAINING, view(850.0, ALL), ALL),  # between target and threshold
        (TRAINING, view(830.0, ALL, settled_s=59.0), ALL),  # not long enough
        (TRAINING, view(830.0, ALL), BOTH),  # high priority is let go first
        (TRAINING, view(830.0, BOTH), AT_600),
        (TRAINING, view(830.0, AT_600), AT_600),  # the next clock would draw 43 W more
        (TRAINING, view(790.0, AT_600), AT_800),
        (TRAINING, view(600.0, AT_600), UNLOCKED),
        (TRAINING, replace(view(600.0, AT_600), highest_w=790.0), AT_800),  # what it read was a dip
        (TRAINING, replace(view(900.0, AT_600), has_low_priority=False), replace(AT_600, high_mhz=1305.0)),
        (LOW_FIRST, view(900.0), LOW),
        (LOW_FIRST, view(900.0, LOW, pending=True), LOW),
        (LOW_FIRST, view(900.0, LOW), replace(LOW, training_mhz=1000.0)),
        (LOW_FIRST, view(1080.0, LOW), BOTH),
        (LOW_FIRST, view(900.0, BOTH), ALL),
        (LOW_FIRST, view(600.0, BOTH), LOW),
        (LOW_FIRST, view(600.0, LOW), UNLOCKED),
    ],
)
def test_who_pays_and_how_much(policy: SharedBudget, seen: RowView, expected: Locks) -> None:
    assert policy.decide(seen) == expected


@given(st.floats(0.0, 2000.0), st.sampled_from([UNLOCKED, AT_800, AT_600, LOW, BOTH, ALL]), st.booleans())
def test_high_priority_pays_only_beside_all_others_and_no_reading_over_the_threshold_frees_anybody(
    watts: float, ordered: Locks, pending: bool
) -> None:
    for policy in (TRAINING, LOW_FIRST):
        decided = policy.decide(view(watts, ordered, pending=pending))
        if decided.high_mhz is not None and ordered.high_mhz is None:
            assert replace(decided, high_mhz=None) == BOTH
        if watts >= 890.0:
            for before, after in zip(locked(ordered), locked(decided), strict=True):
                assert after <= before


def locked(locks: Locks) -> tuple[float, ...]:
    return tuple(9999.0 if mhz is None else mhz for mhz in (locks.low_mhz, locks.high_mhz, locks.training_mhz))
