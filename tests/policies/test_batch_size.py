import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.parallelism.batch_size import BatchRamp, TrainingGoal, phases

POSITIVE = st.floats(1e3, 1e12)


@given(minimum=POSITIVE, critical=POSITIVE, batch=POSITIVE)
def test_steps_and_tokens_lie_on_the_hyperbola_of_mccandlish(minimum: float, critical: float, batch: float) -> None:
    """(S / S_min - 1) (E / E_min - 1) = 1, equation 2.11 of arXiv 1812.06162."""
    goal = TrainingGoal(minimum_tokens=minimum, critical_batch_tokens=critical)
    assert goal.steps(batch) == pytest.approx(goal.minimum_steps * (1 + critical / batch))
    assert goal.tokens(batch) == pytest.approx(minimum * (1 + batch / critical))


def test_the_critical_batch_takes_twice_the_tokens_and_twice_the_steps() -> None:
    goal = TrainingGoal(minimum_tokens=3e11, critical_batch_tokens=4e6)
    assert goal.tokens(4e6) == pytest.approx(6e11)
    assert goal.steps(4e6) == pytest.approx(2 * goal.minimum_steps)


def test_without_a_noise_scale_every_token_counts_as_much() -> None:
    goal = TrainingGoal(minimum_tokens=3e11)
    assert goal.tokens(1e9) == 3e11
    assert goal.minimum_steps == 0.0


RAMPS = {
    "start": st.integers(1, 8),
    "increment": st.integers(1, 8),
    "count": st.integers(0, 20),
    "samples": st.integers(1, 10**7),
    "critical": st.none() | POSITIVE,
}


@given(**RAMPS)
def test_a_ramp_reaches_the_goal_exactly_whatever_its_batches(
    start: int, increment: int, count: int, samples: int, critical: float | None
) -> None:
    seq, full = 2048, start + count * increment
    goal = TrainingGoal(minimum_tokens=1e10, critical_batch_tokens=critical)
    ramp = BatchRamp(start, increment, samples)
    ramp.check(full, 1)
    plan = phases(goal, full, seq, ramp)
    reached = sum(one.steps * one.batch * seq * goal.worth(one.batch * seq) for one in plan)
    assert reached == pytest.approx(1e10, rel=1e-9)
    assert [one.batch for one in plan] == sorted(one.batch for one in plan)
    grown = sum(one.steps * one.batch for one in plan if one.batch < full)
    assert grown <= samples * (1 + 1e-9)


def test_a_ramp_takes_fewer_tokens_and_more_steps_than_the_full_batch_from_the_start() -> None:
    goal = TrainingGoal(minimum_tokens=1e11, critical_batch_tokens=2e6)
    (alone,) = phases(goal, 2048, 2048)
    ramped = phases(goal, 2048, 2048, BatchRamp(64, 64, 5_000_000))
    assert len(ramped) == 32
    assert sum(one.steps for one in ramped) > alone.steps
    assert sum(one.steps * one.batch for one in ramped) < alone.steps * alone.batch


@pytest.mark.parametrize(
    ("ramp", "words"),
    [
        (BatchRamp(32, 48, 1000), "increment that divides"),
        (BatchRamp(2048, 32, 1000), "start below"),
        (BatchRamp(24, 8, 1000), "multiples of .* = 16"),
    ],
)
def test_a_ramp_that_does_not_lead_to_the_full_batch_is_refused(ramp: BatchRamp, words: str) -> None:
    with pytest.raises(ImpossibleError, match=words):
        ramp.check(1024, 16)
